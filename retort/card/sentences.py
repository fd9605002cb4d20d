"""Code that makes vectors of texts, or of their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retort.artifact import Checkpoint
from retort.card.consumers import (
    chosen_graph,
    optimum,
    quoted,
    retort_runtime,
    sentence_transformers,
    transformers_js,
)
from retort.card.facts import MODEL, GraphFile, Usage
from retort.json_files import optional_object, read_object
from retort.runtime.folder import Folder
from retort.runtime.sentence_modules import SentenceModules
from retort.source.checkpoint_layout import modules

QUERY, DOCUMENT = "How far is the moon?", "The moon is 384,400 km away."
TEXTS = f"[{quoted(QUERY)}, {quoted(DOCUMENT)}]"
_JAVASCRIPT = f"""\
import {{ AutoModel, AutoTokenizer }} from "@huggingface/transformers";

const tokenizer = await AutoTokenizer.from_pretrained("{MODEL}");
const model = await AutoModel.from_pretrained("{MODEL}", {{ dtype: "DTYPE" }});
const texts = {TEXTS};
const inputs = await tokenizer(texts, {{ padding: true, truncation: true }});
const {{ OUTPUT }} = await model(inputs);
console.log(OUTPUT.dims);
"""


def pooled_usages(checkpoint: Checkpoint, graphs: Sequence[GraphFile]) -> tuple[Usage, ...]:
    """Return code for graphs with the output ``sentence_embedding``."""
    prompts = _prompts(checkpoint)
    note = _prompts_note(prompts)
    calls = [f"print(model.encode({TEXTS}).shape)"]
    if not prompts.keys().isdisjoint({"query", "document"}):
        calls = [f"print(model.encode_query({quoted(QUERY)}).shape)"]
        calls += [f"print(model.encode_document({quoted(DOCUMENT)}).shape)"]
    return (
        *transformers_js(graphs, _JAVASCRIPT.replace("OUTPUT", "sentence_embedding"), note),
        sentence_transformers(graphs, calls, remote_code=checkpoint.trust_remote_code),
        _optimum(graphs, "Optimum gives a vector for each token, without the pooling."),
        _fastembed(checkpoint, graphs, note),
        retort_runtime(graphs, calls),
    )


def token_usages(graphs: Sequence[GraphFile]) -> tuple[Usage, ...]:
    """Return code for graphs that give a vector for each token, to be pooled by their users."""
    return (
        *transformers_js(graphs, _JAVASCRIPT.replace("OUTPUT", "last_hidden_state")),
        _optimum(graphs),
        retort_runtime(
            graphs,
            [
                "# No pooling came with the model: take the one that it was trained for.",
                f'print(model.encode({TEXTS}, pooling="mean").shape)',
            ],
        ),
    )


def _prompts(checkpoint: Checkpoint) -> dict[str, str]:
    said = optional_object(checkpoint.folder / "config_sentence_transformers.json").get("prompts")
    return {name: text for name, text in (said or {}).items() if text}


def _prompts_note(prompts: Mapping[str, str]) -> str:
    if not prompts:
        return ""
    told = ", ".join(f"{quoted(text)} for {name}" for name, text in prompts.items())
    return f"Put the model's prompts before the texts: {told}."


def _optimum(graphs: Sequence[GraphFile], note: str = "") -> Usage:
    calls = (
        f"texts = {TEXTS}",
        'inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")',
        "print(model(**inputs).last_hidden_state.shape)",
    )
    return optimum(graphs, "ORTModelForFeatureExtraction", calls, note=note)


def _fastembed(checkpoint: Checkpoint, graphs: Sequence[GraphFile], note: str) -> Usage:
    code = f"""\
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

TextEmbedding.add_custom_model(
    model="{MODEL}",
    sources=ModelSource(hf="{MODEL}"),
    model_file="{chosen_graph(graphs)}",
    output_name="sentence_embedding",
    pooling=PoolingType.DISABLED,
    normalization=False,
    dim={_dimension(checkpoint)},
)
model = TextEmbedding("{MODEL}", specific_model_path="{MODEL}")
print([vector.shape for vector in model.embed({TEXTS})])
"""
    return Usage("fastembed", "python", code, note)


def _dimension(checkpoint: Checkpoint) -> int:
    """Return the length of a text's vector: of the last Dense, else of the poolings together."""
    denses = [part for part in modules(checkpoint.folder) if part.type.endswith(".Dense")]
    if denses:
        last = checkpoint.folder / denses[-1].path / "config.json"
        return int(read_object(last)["out_features"])
    poolings = SentenceModules.read(Folder(checkpoint.folder)).modes
    width = checkpoint.config.get("hidden_size") or checkpoint.config.get("dim") or 0
    return int(width) * max(1, len(poolings))
