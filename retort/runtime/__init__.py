"""Use a converted folder on onnxruntime, tokenizers and numpy alone.

>>> from retort.runtime import load
>>> vectors = load("models/all-MiniLM-L6-v2").encode(["a text", "another"])  # doctest: +SKIP
>>> load("models/bus-ner").extract("a bus to Pune")  # doctest: +SKIP
{'DST': 'Pune'}
"""

from retort.runtime.embedding import EmbeddingModel
from retort.runtime.loading import load
from retort.runtime.spans import Entity
from retort.runtime.token_classification import TokenClassificationModel

__all__ = ["EmbeddingModel", "Entity", "TokenClassificationModel", "load"]
