"""Code that makes token embeddings of queries and images of pages, and compares them by MaxSim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retort.card.consumers import chosen_graph, quoted, retort_runtime
from retort.card.facts import MODEL, GraphFile, Usage

QUERY = "What was sold most?"
ENCODE_QUERY = f"queries = model.encode_queries([{quoted(QUERY)}])"
TEXT_CALLS = (ENCODE_QUERY, "print(queries[0].shape)")
CALLS = (
    ENCODE_QUERY,
    'pages = model.encode_images([Image.new("RGB", (420, 594), "white")])  # or paths of files',
    "print(model.score(queries, pages))",
)
_RUNTIME_NOTE = (
    "Needs Pillow for images, whose pixels equal those of transformers' slow processor. A graph of "
    "the text variant refuses images."
)
_TEXT_NOTE = (
    "The graph is the text variant: it takes queries alone. For pages, convert the checkpoint with "
    "`--visual_variant combined`, or `image`."
)
_NO_CLASS = "transformers.js and Optimum have no class for these graphs."
_PLAIN_TEXT_NOTE = f"`process_queries` of transformers' processor gives the ids. {_NO_CLASS}"
_PLAIN_NOTE = (
    "A batch of text has no images, so their inputs are empty; in the combined graph the vision "
    "tower does not run. Pixels, prompts and special tokens of pages must be those of the "
    "checkpoint's processor: Retort's runtime makes them, and `process_queries` of transformers' "
    f"processor gives the ids. {_NO_CLASS}"
)


def visual_usages(
    graphs: Sequence[GraphFile], ids: Sequence[int], empty: Mapping[str, str]
) -> tuple[Usage, ...]:
    """Return code for the graphs of a model of visual document retrieval.

    Args:
        graphs: Those of the folder.
        ids: The tokens of ``QUERY`` as the graph takes it, prompts included.
        empty: For each image input, the numpy code of what stands for no image.
    """
    chosen = chosen_graph(graphs)
    (taken,) = (graph.inputs for graph in graphs if graph.name == chosen)
    images = {name: value for name, value in empty.items() if name in taken}
    runtime = retort_runtime(graphs, CALLS if images else TEXT_CALLS)
    code = f"from PIL import Image\n{runtime.code}" if images else runtime.code
    notes = (_RUNTIME_NOTE, _PLAIN_NOTE) if images else (_TEXT_NOTE, _PLAIN_TEXT_NOTE)
    return (
        Usage(runtime.consumer, "python", code, notes[0]),
        Usage("onnxruntime alone", "python", _plain(chosen, ids, images), notes[1]),
    )


def _plain(graph: str, ids: Sequence[int], images: Mapping[str, str]) -> str:
    lines = "".join(f'    "{name}": {value},\n' for name, value in images.items())
    return f"""\
import numpy as np
import onnxruntime

ids = np.array([{list(ids)}])  # {QUERY}
inputs = {{
    "input_ids": ids,
    "attention_mask": np.ones_like(ids),
{lines}}}
session = onnxruntime.InferenceSession("{MODEL}/{graph}")
(embeddings,) = session.run(["embeddings"], inputs)
print(embeddings.shape)
"""
