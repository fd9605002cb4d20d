"""Choosing the class that runs a converted folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retort.errors import InputError
from retort.runtime.cross_encoder import CrossEncoderModel
from retort.runtime.embedding import EmbeddingModel
from retort.runtime.folder import Folder
from retort.runtime.graph import Graph
from retort.runtime.late_interaction import LateInteractionModel
from retort.runtime.sparse import SparseModel
from retort.runtime.token_classification import TokenClassificationModel
from retort.runtime.visual import ColPaliModel, ColQwen2Model

Model = (
    EmbeddingModel
    | TokenClassificationModel
    | LateInteractionModel
    | SparseModel
    | CrossEncoderModel
    | ColQwen2Model
    | ColPaliModel
)

# A new family needs a class with `family`, `recognises` and `(folder, graph)`, and a place here:
# graphs of undeclared family are shown to the last one first, as the first takes most.
MODELS: dict[str, type[Model]] = {
    EmbeddingModel.family: EmbeddingModel,
    TokenClassificationModel.family: TokenClassificationModel,
    LateInteractionModel.family: LateInteractionModel,
    SparseModel.family: SparseModel,
    CrossEncoderModel.family: CrossEncoderModel,
    ColQwen2Model.family: ColQwen2Model,
    ColPaliModel.family: ColPaliModel,
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
        folder: What a conversion wrote, or any folder with ``tokenizer.json`` and a graph; or a
            graph itself, its tokenizer beside it or, if it lies in ``onnx/``, one level up.
        file_name: Which graph, for example ``model_quantized.onnx``; it is looked for in the
            folder and then in ``onnx/``. None: ``onnx/model.onnx``, else ``model.onnx``, else the
            only graph there, or the one that is given.
        providers: onnxruntime's execution providers, the preferred one first; None: the CPU.
        threads: Threads inside one operator; None: onnxruntime's choice.

    Returns:
        The model of the family that the graph's metadata name, else ``conversion.json``, else
        that the names of the graph's outputs show.

    Raises:
        InputError: The folder, a file in it or an option cannot be used.
    """
    source, path = _found(Path(folder), file_name)
    graph = Graph(path, providers, threads)
    return _model_class(source, graph)(source, graph)


def _found(path: Path, file_name: str | None) -> tuple[Folder, Path]:
    """Return the folder whose files a graph goes with, and the graph."""
    if path.suffix != ".onnx" or path.is_dir():
        source = Folder.open(path)
        return source, source.graph_path(file_name)
    if not path.is_file():
        raise InputError(f"{path} is not there: give a folder, or a graph in one")
    if file_name is not None:
        raise InputError(f"{path} is a graph itself: give its folder, or no {file_name}")
    place = path.absolute().parent
    is_inside = place.name == "onnx" and not (place / "tokenizer.json").is_file()
    return Folder(place.parent if is_inside else place), path


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
