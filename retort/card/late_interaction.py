"""Code that makes token embeddings of queries and documents, and compares them by MaxSim."""

from __future__ import annotations

import string
from collections.abc import Sequence

from retort.card.consumers import quoted, retort_runtime
from retort.card.facts import MODEL, GraphFile, Usage
from retort.source.late_interaction import LateInteraction, TokenIds

QUERY = quoted("How far is the moon?")
DOCUMENTS = f"[{quoted('The moon is 384,400 km away.')}, {quoted('Bread is made of flour.')}]"
# What fastembed's code says of every ColBERT that it knows by no other name.
_FASTEMBED_QUERY_LENGTH = 32
_FASTEMBED_PREFIXES = (1, 2)

_NEXT_PLAID = f"""\
use next_plaid_onnx::Colbert;

fn main() -> Result<(), Box<dyn std::error::Error>> {{
    let model = Colbert::builder("{MODEL}").with_quantized(QUANTIZED).build()?;
    let queries = model.encode_queries(&[{QUERY}])?;
    let documents = model.encode_documents(&{DOCUMENTS}, None)?;
    println!("{{:?}} {{:?}}", queries[0].shape(), documents[0].shape());
    Ok(())
}}
"""
_FASTEMBED = f"""\
from fastembed import LateInteractionTextEmbedding

model = LateInteractionTextEmbedding("colbert-ir/colbertv2.0", specific_model_path="{MODEL}")
queries = list(model.query_embed({QUERY}))
documents = list(model.embed({DOCUMENTS}))
print(queries[0].shape, documents[0].shape)
"""
_FASTEMBED_NOTE = (
    "fastembed takes no ColBERT of one's own, but this one has the settings of the one named here. "
    f"Queries must not exceed {_FASTEMBED_QUERY_LENGTH} tokens."
)


def late_interaction_usages(
    graphs: Sequence[GraphFile], settings: LateInteraction, ids: TokenIds
) -> tuple[Usage, ...]:
    """Return code for the graphs of a ColBERT.

    Args:
        graphs: Those of the folder.
        settings: How the checkpoint wants texts to be written.
        ids: Its special tokens.
    """
    encode = [
        f"queries = model.encode_queries([{QUERY}])",
        f"documents = model.encode_documents({DOCUMENTS})",
    ]
    runtime = retort_runtime(graphs, [*encode, "print(model.score(queries, documents))"])
    rank = [
        *encode,
        "ranked = rank.rerank(",
        '    documents_ids=[["moon", "bread"]],',
        "    queries_embeddings=queries,",
        "    documents_embeddings=[documents],",
        ")",
        "print(ranked)",
    ]
    pylate = "from pylate import rank\n" + retort_runtime(graphs, rank).code
    root = {graph.name for graph in graphs if "/" not in graph.name}
    usages = [runtime, Usage("PyLate's ranking, of these embeddings", "python", pylate)]
    if "model.onnx" in root:
        quantized = "true" if "model_int8.onnx" in root else "false"
        code = _NEXT_PLAID.replace("QUANTIZED", quantized)
        usages.append(Usage("next-plaid", "rust", code))
        if _is_fastembeds(settings, ids):
            usages.append(Usage("fastembed", "python", _FASTEMBED, _FASTEMBED_NOTE))
    return tuple(usages)


def _is_fastembeds(settings: LateInteraction, ids: TokenIds) -> bool:
    return (
        (ids.query_prefix, ids.document_prefix) == _FASTEMBED_PREFIXES
        and settings.query_length == _FASTEMBED_QUERY_LENGTH
        and settings.do_query_expansion
        and not settings.attend_to_expansion_tokens
        and set(settings.skiplist_words) == set(string.punctuation)
    )
