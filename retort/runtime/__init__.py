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
>>> load("models/splade").encode("a text", top_k=2)  # doctest: +SKIP
{'text': 2.5, 'word': 1.25}
>>> load("models/reranker").rank("a query", ["a document", "another"])  # doctest: +SKIP
[{'corpus_id': 1, 'score': 0.96}, {'corpus_id': 0, 'score': 0.12}]
>>> pages = load("models/colqwen2")  # doctest: +SKIP
>>> pages.score(pages.encode_queries("?"), pages.encode_images(["page.png"]))  # doctest: +SKIP
array([[17.5]], dtype=float32)
"""

from retort.runtime.cross_encoder import CrossEncoderModel
from retort.runtime.embedding import EmbeddingModel
from retort.runtime.late_interaction import LateInteractionModel
from retort.runtime.loading import load
from retort.runtime.scores import LabelScore, RankedDocument
from retort.runtime.spans import Entity
from retort.runtime.sparse import SparseModel
from retort.runtime.sparse_vectors import SparseVector
from retort.runtime.token_classification import TokenClassificationModel
from retort.runtime.visual import ColPaliModel, ColQwen2Model, VisualModel

__all__ = [
    "ColPaliModel",
    "ColQwen2Model",
    "CrossEncoderModel",
    "EmbeddingModel",
    "Entity",
    "LabelScore",
    "LateInteractionModel",
    "RankedDocument",
    "SparseModel",
    "SparseVector",
    "TokenClassificationModel",
    "VisualModel",
    "load",
]
