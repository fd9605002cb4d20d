"""Choosing the class that runs a converted folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retort.errors import InputError
from retort.runtime.embedding import EmbeddingModel
from retort.runtime.folder import Folder
from retort.runtime.graph import Graph
from retort.runtime.late_interaction import LateInteractionModel
from retort.runtime.token_classification import TokenClassificationModel

Model = EmbeddingModel | TokenClassificationModel | LateInteractionModel

# A new family needs a class with `family`, `recognises` and `(folder, graph)`, and a place here:
# graphs of undeclared family are shown to the last one first, as the first takes most.
MODELS: dict[str, type[Model]] = {
    EmbeddingModel.family: EmbeddingModel,
    TokenClassificationModel.family: TokenClassificationModel,
    LateInteractionModel.family: LateInteractionModel,
}


def load(
    folder: str | Path,
    file_name: str | None = None,
    *,
    providers: Sequence[str] | None = None,
    threads: int | None = None,
) -> Model:
    """Open a converted folder for use.

    Args:
        folder: What a conversion wrote, or any folder with ``tokenizer.json`` and a graph.
        file_name: Which graph, for example ``model_quantized.onnx``; it is looked for in the
            folder and then in ``onnx/``. None: ``onnx/model.onnx``, else ``model.onnx``, else the
            only graph there.
        providers: onnxruntime's execution providers, the preferred one first; None: the CPU.
        threads: Threads inside one operator; None: onnxruntime's choice.

    Returns:
        The model of the family that the graph's metadata name, else ``conversion.json``, else
        that the names of the graph's outputs show.

    Raises:
        InputError: The folder, a file in it or an option cannot be used.
    """
    source = Folder.open(folder)
    graph = Graph(source.graph_path(file_name), providers, threads)
    return _model_class(source, graph)(source, graph)


def _model_class(folder: Folder, graph: Graph) -> type[Model]:
    known = ", ".join(MODELS)
    family = graph.metadata.get("family") or folder.mapping("conversion.json").get("family")
    if family is not None:
        if family not in MODELS:
            raise InputError(f"{graph.path} is of the family {family}, but load knows {known}")
        return MODELS[family]
    for model in reversed(MODELS.values()):
        if model.recognises(folder, graph):
            return model
    raise InputError(
        f"{graph.path} has the outputs {', '.join(graph.outputs)}, which are not those of "
        f"{known}: convert the checkpoint again"
    )
