"""Code that makes token embeddings of queries and images of pages, and compares them by MaxSim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retort.card.consumers import chosen_graph, quoted, retort_runtime
from retort.card.facts import MODEL, GraphFile, Usage

QUERY = "What was sold most?"
CALLS = (
    f"queries = model.encode_queries([{quoted(QUERY)}])",
    'pages = model.encode_images([Image.new("RGB", (420, 594), "white")])  # or paths of files',
    "print(model.score(queries, pages))",
)
_RUNTIME_NOTE = (
    "Needs Pillow for images, whose pixels equal those of transformers' slow processor. A graph of "
    "the text variant refuses images."
)
_PLAIN_NOTE = (
    "A batch of text has no images, so their inputs are empty, and the vision tower does not run. "
    "Pixels, prompts and special tokens of pages must be those of the checkpoint's processor: "
    "Retort's runtime makes them, and `process_queries` of transformers' processor gives the ids. "
    "transformers.js and Optimum have no class for these graphs."
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
    runtime = retort_runtime(graphs, CALLS)
    code = f"from PIL import Image\n{runtime.code}"
    plain = Usage("onnxruntime alone", "python", _plain(graphs, ids, empty), _PLAIN_NOTE)
    return (Usage(runtime.consumer, "python", code, _RUNTIME_NOTE), plain)


def _plain(graphs: Sequence[GraphFile], ids: Sequence[int], empty: Mapping[str, str]) -> str:
    images = "".join(f'    "{name}": {value},\n' for name, value in empty.items())
    return f"""\
import numpy as np
import onnxruntime

ids = np.array([{list(ids)}])  # {QUERY}
inputs = {{
    "input_ids": ids,
    "attention_mask": np.ones_like(ids),
{images}}}
session = onnxruntime.InferenceSession("{MODEL}/{chosen_graph(graphs)}")
taken = {{value.name: inputs[value.name] for value in session.get_inputs()}}
(embeddings,) = session.run(["embeddings"], taken)
print(embeddings.shape)
"""
