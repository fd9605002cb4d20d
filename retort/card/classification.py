"""Code that ranks documents, or gives labels to texts or pairs of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retort.artifact import Checkpoint
from retort.card.consumers import (
    chosen_graph,
    optimum,
    quoted,
    retort_runtime,
    serving_library,
    transformers_js,
)
from retort.card.facts import MODEL, CardFacts, GraphFile, Usage
from retort.runtime.pairs import entailment_id, reads_pairs

QUERY = quoted("How far is the moon?")
DOCUMENTS = (quoted("The moon is 384,400 km away."), quoted("The sun is a star."))
LIST = f"[{', '.join(DOCUMENTS)}]"
PAIRS = f"[({QUERY}, {DOCUMENTS[0]}), ({QUERY}, {DOCUMENTS[1]})]"
TEXT = quoted("What a lovely day!")
TOPICS = f"[{quoted('weather')}, {quoted('sports')}]"
ZERO_SHOT = "zero-shot-classification"
NO_ACTIVATION = "These are the logits, before the activation that `config.json` names."
# What transformers.js 4.3 loads with such a head; it refuses other model types.
_JS_TYPES = frozenset(
    {
        "albert", "bert", "camembert", "convbert", "deberta", "deberta-v2", "distilbert", "electra",
        "esm", "mobilebert", "modernbert", "mpnet", "roberta", "roformer", "squeezebert", "xlm",
        "xlm-roberta",
    }
)  # fmt: skip
_PAIRS_JAVASCRIPT = f"""\
import {{ AutoModelForSequenceClassification, AutoTokenizer }} from "@huggingface/transformers";

const tokenizer = await AutoTokenizer.from_pretrained("{MODEL}");
const model = await AutoModelForSequenceClassification.from_pretrained("{MODEL}", {{
  dtype: "DTYPE",
}});
const documents = {LIST};
const inputs = await tokenizer(Array(documents.length).fill({QUERY}), {{
  text_pair: documents,
  padding: true,
  truncation: true,
}});
const {{ logits }} = await model(inputs);
console.log(logits.tolist());
"""
_PIPELINE_JAVASCRIPT = f"""\
import {{ pipeline }} from "@huggingface/transformers";

const classifier = await pipeline("TASK", "{MODEL}", {{ dtype: "DTYPE" }});
console.log(await classifier(ARGUMENTS));
"""


def classifier_facts(
    checkpoint: Checkpoint, labels: Mapping[int, str], graphs: Sequence[GraphFile]
) -> CardFacts:
    """Return what the card of a classifier says: of a reranker, of pairs, or of texts.

    Args:
        checkpoint: The source.
        labels: Its labels by index.
        graphs: Those of the folder.
    """
    names = list(labels.values())
    library = serving_library(graphs if checkpoint.model_type in _JS_TYPES else ())
    if entailment_id(names) is not None:
        usages = _zero_shot(checkpoint, graphs)
        return CardFacts(ZERO_SHOT, library, ("natural-language-inference",), usages)
    if not reads_pairs(checkpoint.config, names):
        return CardFacts("text-classification", library, (), _texts(checkpoint, graphs))
    tags = ("sentence-transformers", "cross-encoder")
    if len(names) > 1:
        return CardFacts("text-classification", library, tags, _pairs(checkpoint, graphs))
    return CardFacts("text-ranking", library, (*tags, "reranker"), _ranking(checkpoint, graphs))


def _ranking(checkpoint: Checkpoint, graphs: Sequence[GraphFile]) -> tuple[Usage, ...]:
    calls = [f"for found in model.rank({QUERY}, {LIST}):", "    print(found)"]
    return (
        *_transformers_js(checkpoint, graphs, _PAIRS_JAVASCRIPT, NO_ACTIVATION),
        _cross_encoder(checkpoint, graphs, calls),
        _optimum_pairs(graphs),
        _fastembed(graphs),
        retort_runtime(graphs, calls),
    )


def _pairs(checkpoint: Checkpoint, graphs: Sequence[GraphFile]) -> tuple[Usage, ...]:
    calls = [f"print(model.predict({PAIRS}))"]
    return (
        *_transformers_js(checkpoint, graphs, _PAIRS_JAVASCRIPT, NO_ACTIVATION),
        _cross_encoder(checkpoint, graphs, calls),
        _optimum_pairs(graphs),
        retort_runtime(graphs, [f"print(model.classify_batch({PAIRS}))"]),
    )


def _zero_shot(checkpoint: Checkpoint, graphs: Sequence[GraphFile]) -> tuple[Usage, ...]:
    arguments = f"{TEXT}, {TOPICS}"
    return (
        *_transformers_js(checkpoint, graphs, _javascript(ZERO_SHOT, arguments)),
        _cross_encoder(checkpoint, graphs, [f"print(model.predict({PAIRS}))"]),
        _optimum_pipeline(graphs, ZERO_SHOT, arguments),
        retort_runtime(graphs, [f"print(model.zero_shot({arguments}))"]),
    )


def _texts(checkpoint: Checkpoint, graphs: Sequence[GraphFile]) -> tuple[Usage, ...]:
    task = "text-classification"
    return (
        *_transformers_js(checkpoint, graphs, _javascript(task, TEXT)),
        _optimum_pipeline(graphs, task, TEXT),
        retort_runtime(graphs, [f"print(model.classify({TEXT}))"]),
    )


def _transformers_js(
    checkpoint: Checkpoint, graphs: Sequence[GraphFile], code: str, note: str = ""
) -> tuple[Usage, ...]:
    return transformers_js(graphs, code, note) if checkpoint.model_type in _JS_TYPES else ()


def _javascript(task: str, arguments: str) -> str:
    return _PIPELINE_JAVASCRIPT.replace("TASK", task).replace("ARGUMENTS", arguments)


def _optimum_pipeline(graphs: Sequence[GraphFile], task: str, arguments: str) -> Usage:
    calls = (
        f'classifier = pipeline("{task}", model=model, tokenizer=tokenizer)',
        f"print(classifier({arguments}))",
    )
    return optimum(graphs, "ORTModelForSequenceClassification", calls, imports=", pipeline")


def _optimum_pairs(graphs: Sequence[GraphFile]) -> Usage:
    calls = (
        f"pairs = {PAIRS}",
        'inputs = tokenizer(pairs, padding=True, truncation=True, return_tensors="pt")',
        "print(model(**inputs).logits)",
    )
    return optimum(graphs, "ORTModelForSequenceClassification", calls, note=NO_ACTIVATION)


def _cross_encoder(
    checkpoint: Checkpoint, graphs: Sequence[GraphFile], calls: Sequence[str]
) -> Usage:
    trust = "\n    trust_remote_code=True," if checkpoint.trust_remote_code else ""
    opening = f"""\
from sentence_transformers import CrossEncoder

model = CrossEncoder(
    "{MODEL}",
    backend="onnx",
    model_kwargs={{"file_name": "{chosen_graph(graphs)}"}},{trust}
)
"""
    return Usage("sentence-transformers", "python", opening + "\n".join(calls) + "\n")


def _fastembed(graphs: Sequence[GraphFile]) -> Usage:
    code = f"""\
from fastembed.common.model_description import ModelSource
from fastembed.rerank.cross_encoder import TextCrossEncoder

TextCrossEncoder.add_custom_model(
    model="{MODEL}", sources=ModelSource(hf="{MODEL}"), model_file="{chosen_graph(graphs)}"
)
model = TextCrossEncoder("{MODEL}", specific_model_path="{MODEL}")
print(list(model.rerank({QUERY}, {LIST})))
"""
    return Usage("fastembed", "python", code, NO_ACTIVATION)
