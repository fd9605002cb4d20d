"""Use a converted folder on onnxruntime, tokenizers and numpy alone.

>>> from retort.runtime import load
>>> vectors = load("models/all-MiniLM-L6-v2").encode(["a text", "another"])  # doctest: +SKIP
>>> load("models/bus-ner").extract("a bus to Pune")  # doctest: +SKIP
{'DST': 'Pune'}
>>> colbert = load("models/colbert")  # doctest: +SKIP
>>> query, documents = colbert.encode_queries("?"), colbert.encode_documents(["a", "b"])
... # doctest: +SKIP
>>> colbert.rank(query, documents)  # doctest: +SKIP
[(1, 24.5), (0, 21.25)]
"""

from retort.runtime.embedding import EmbeddingModel
from retort.runtime.late_interaction import LateInteractionModel
from retort.runtime.loading import load
from retort.runtime.spans import Entity
from retort.runtime.token_classification import TokenClassificationModel

__all__ = [
    "EmbeddingModel",
    "Entity",
    "LateInteractionModel",
    "TokenClassificationModel",
    "load",
]
