"""Code that weighs the terms of queries and documents, and compares them by their products."""

from __future__ import annotations

from collections.abc import Sequence

from retort.artifact import Checkpoint
from retort.card.consumers import (
    PORTABLE,
    chosen_graph,
    optimum,
    quoted,
    retort_runtime,
    transformers_js,
)
from retort.card.facts import MODEL, GraphFile, Usage
from retort.source.sparse import ANSERINI_ARCHITECTURE, read_pooling

ANSERINI = "Anserini"
QUERY, DOCUMENT = quoted("How far is the moon?"), quoted("The moon is 384,400 km away.")
_POOLED_BY_CONSUMERS = ("max", "relu")
_SPARSE_ENCODER = f"""\
from sentence_transformers import SparseEncoder

model = SparseEncoder(
    "{MODEL}", backend="onnx", model_kwargs={{"file_name": "GRAPH"}}
)
queries = model.encode_query([{QUERY}])
documents = model.encode_document([{DOCUMENT}])
print(model.similarity(queries, documents))
print(model.decode(documents, top_k=5))
"""
_JAVASCRIPT = f"""\
import {{ AutoModel, AutoTokenizer }} from "@huggingface/transformers";

const tokenizer = await AutoTokenizer.from_pretrained("{MODEL}");
const model = await AutoModel.from_pretrained("{MODEL}", {{ dtype: "DTYPE" }});
const inputs = await tokenizer([{DOCUMENT}], {{ padding: true, truncation: true }});
const {{ sparse_vector }} = await model(inputs);
console.log(sparse_vector.dims);
"""
_FASTEMBED = f"""\
from fastembed import SparseTextEmbedding

model = SparseTextEmbedding("prithivida/Splade_PP_en_v1", specific_model_path="{MODEL}")
print(list(model.embed([{DOCUMENT}])))
"""
_FASTEMBED_NOTE = "fastembed takes no SPLADE of one's own, but reads the folder for one it knows."
_ANSERINI_NOTE = (
    "Anserini's encoders look here, or in `$ANSERINI_ENCODER_CACHE`, each for names of its own, "
    "such as `splade-v3-optimized.onnx` and `splade-v3-vocab.txt`. They read `output_idx` and "
    "`output_weights`, which serve one text at a time."
)


def sparse_usages(
    checkpoint: Checkpoint, graphs: Sequence[GraphFile], vocabulary_file: str
) -> tuple[Usage, ...]:
    """Return code for the graphs of a SPLADE model, for those who find their outputs in them.

    Args:
        checkpoint: The source.
        graphs: Those of the folder.
        vocabulary_file: The name of Anserini's vocabulary.
    """
    outputs = set(graphs[0].outputs)
    names = {graph.name for graph in graphs}
    encoder = Usage(
        "sentence-transformers",
        "python",
        _SPARSE_ENCODER.replace("GRAPH", chosen_graph(graphs)),
    )
    calls = [
        f"queries = model.encode_queries([{QUERY}])",
        f"documents = model.encode_documents([{DOCUMENT}])",
        "print(model.score(queries, documents), documents[0])",
    ]
    by_pooling = "logits" in outputs and read_pooling(checkpoint) == _POOLED_BY_CONSUMERS
    anserini = (
        checkpoint.model_type == ANSERINI_ARCHITECTURE
        and {"output_idx", "output_weights"} <= outputs
    )
    return (
        *([encoder] if "logits" in outputs else []),
        *transformers_js(graphs, _JAVASCRIPT),
        *([_optimum(graphs)] if by_pooling else []),
        *([_fastembed()] if by_pooling and "model.onnx" in names else []),
        *([_anserini(names, vocabulary_file)] if anserini else []),
        retort_runtime(graphs, calls),
    )


def _optimum(graphs: Sequence[GraphFile]) -> Usage:
    calls = (
        f'inputs = tokenizer([{DOCUMENT}], padding=True, truncation=True, return_tensors="pt")',
        'logits = model(**inputs).logits * inputs["attention_mask"][..., None]',
        "print(logits.relu().log1p().amax(dim=1).count_nonzero())",
    )
    return optimum(graphs, "ORTModelForMaskedLM", calls)


def _fastembed() -> Usage:
    return Usage("fastembed", "python", _FASTEMBED, _FASTEMBED_NOTE)


def _anserini(names: set[str], vocabulary_file: str) -> Usage:
    graph = next(name for name in (*PORTABLE, *sorted(names)) if name in names)
    name = vocabulary_file.removesuffix("-vocab.txt")
    code = f"""\
mkdir -p ~/.cache/pyserini/encoders
cp "{MODEL}/{graph}" ~/.cache/pyserini/encoders/{name}.onnx
cp "{MODEL}/{vocabulary_file}" ~/.cache/pyserini/encoders/
"""
    return Usage(ANSERINI, "bash", code, _ANSERINI_NOTE)
