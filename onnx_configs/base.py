"""What a model family is, and the ONNX configuration and patcher that families share."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from retort.arguments import PRECISIONS, ExportArguments, Layout
from retort.artifact import Checkpoint
from retort.card.facts import CardFacts, GraphFile
from retort.errors import InputError
from retort.fidelity import Distance
from retort.json_files import read_object
from retort.runtime.sentence_modules import TRANSFORMER_CONFIGS
from retort.talk import third_party_quiet

if TYPE_CHECKING:
    import onnx
    import torch
    from optimum.exporters.onnx import OnnxConfig

Tensors = dict[str, npt.NDArray[Any]]
TOKEN_AXES = {0: "batch_size", 1: "sequence_length"}
BATCH_AXES = {0: "batch_size"}
UNLIMITED = 1_000_000  # transformers writes 1e30 where a tokenizer knows no limit
DEFAULT_MAXIMUM_LENGTH = 512
# These architectures number positions from pad_token_id + 1, which costs them as many tokens.
OFFSET_POSITIONS = frozenset(
    {
        "camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta",
        "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
    }
)  # fmt: skip
TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# What a reference's tokens may say beside the model's inputs: which rows of a token-wise output
# are compared, int64 [batch, sequence]; where it is absent, those of the attention mask.
COUNTED_TOKENS = "counted_tokens"


@dataclass(frozen=True)
class GraphRecipe:
    """What a family puts into its graph.

    Attributes:
        task: The Optimum task whose model class is loaded and traced.
        outputs: Output names with their dynamic axes, in the graph's order.
        head: A module called with ``(outputs, attention_mask)`` that returns the outputs the
            backbone lacks; None where the backbone has them all.
        inputs: Which of the architecture's inputs the graph takes; others are constant inside.
        model_class: What loads the checkpoint; None for what Optimum takes for the task.
        rewrite: What is done to the traced graph before anything else; None for nothing.
    """

    task: str
    outputs: Mapping[str, Mapping[int, str]]
    head: torch.nn.Module | None = None
    inputs: Sequence[str] = TEXT_INPUTS
    model_class: Any = None
    rewrite: Callable[[onnx.ModelProto], None] | None = None


class Reference(Protocol):
    """The untouched PyTorch model, run through the library its users use."""

    library: str
    max_length: int

    def tokenize(self, texts: Sequence[str], padding_side: str) -> Tensors:
        """Return int64 ``[batch, sequence]`` inputs by name, as the library tokenizes.

        ``COUNTED_TOKENS`` may stand beside them.
        """

    def run(self, inputs: Tensors) -> Tensors:
        """Return float32 outputs under the graph's output names."""


class ModelFamily(ABC):
    """One kind of model: how it is recognised, exported, checked and packaged."""

    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]]
    fidelity_unit: ClassVar[str]
    precisions: ClassVar[Sequence[str]] = PRECISIONS
    per_row: ClassVar[bool] = False  # whether 8-bit activations need a scale for each token
    layout: ClassVar[Layout] = "onnx"  # what --layout means where it is not given
    # Outputs that some tool's graphs have instead of the family's, for ``completed`` to read.
    partial_outputs: ClassVar[Sequence[str]] = ()

    @abstractmethod
    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Tell from configuration files alone whether the checkpoint is of this family."""

    def check(self, checkpoint: Checkpoint, arguments: ExportArguments) -> None:
        """Refuse, before any weights are fetched, what the graph cannot be.

        Raises:
            InputError: If an option or a part of the checkpoint has no place in the graph.
        """
        del checkpoint, arguments

    def check_architecture(self, checkpoint: Checkpoint) -> None:
        """Refuse, before any weights are fetched, an architecture that cannot be traced.

        Raises:
            InputError: If Optimum cannot export it for the family's task.
        """
        _optimum_config(checkpoint, self.tasks[0])

    def graphs(self, arguments: ExportArguments) -> Mapping[str, ExportArguments]:
        """Return the graphs to make by the stem of their file names, each with its arguments."""
        return {"model": arguments}

    @abstractmethod
    def recipe(self, checkpoint: Checkpoint, arguments: ExportArguments) -> GraphRecipe:
        """Return what goes into the graph, its head's weights loaded."""

    def onnx_config(self, checkpoint: Checkpoint, recipe: GraphRecipe) -> OnnxConfig:
        """Return Optimum's configuration of the graph.

        Raises:
            InputError: If Optimum cannot export the architecture for the recipe's task.
        """
        return onnx_config(checkpoint, recipe)

    @abstractmethod
    def reference(self, checkpoint: Checkpoint, arguments: ExportArguments) -> Reference:
        """Load the untouched model that the graph must agree with."""

    @abstractmethod
    def fidelity(
        self, expected: Tensors, actual: Tensors, mask: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return scores of a batch, for each text or token, 1 being perfect, in ``fidelity_unit``.

        Args:
            expected: The reference's outputs.
            actual: The graph's outputs.
            mask: Which tokens are compared, ``[batch, sequence]``.
        """

    def completed(self, reference: Reference, inputs: Tensors, outputs: Tensors) -> Tensors:
        """Return the outputs of a graph made elsewhere, with what it leaves to its consumers.

        Args:
            reference: What ``reference`` returned, which knows how it is made.
            inputs: The graph's inputs.
            outputs: Its outputs by the reference's names, and its ``partial_outputs``.
        """
        del reference, inputs
        return outputs

    @abstractmethod
    def answers(self, model: Any, text: str) -> list[str]:
        """Return the lines that ``--verify`` prints for a text run through a runtime model."""

    def distance(self, expected: Tensors, actual: Tensors) -> Distance | None:
        """Return a figure for ``--verify`` to tell beside the answers, if the family has one.

        Args:
            expected: The reference's outputs for one text.
            actual: The graph's.
        """
        del expected, actual
        return None

    def vocabulary(self, checkpoint: Checkpoint) -> int:
        """Return the number of token ids that stand for text, for random inputs."""
        return int(checkpoint.config.get("vocab_size") or 2)

    def maximum_length(self, checkpoint: Checkpoint) -> int:
        """Return the longest input in tokens that the checkpoint's users feed."""
        paths = (checkpoint.backbone / name for name in TRANSFORMER_CONFIGS)
        said = _length(next(filter(Path.is_file, paths), None), "max_seq_length")
        said = said or _length(checkpoint.backbone / "tokenizer_config.json", "model_max_length")
        limits = [positional_limit(checkpoint), said]
        return min((limit for limit in limits if limit), default=DEFAULT_MAXIMUM_LENGTH)

    def added_tokens(self, checkpoint: Checkpoint) -> Sequence[str]:
        """Return tokens that ``tokenizer.json`` must keep whole wherever a text has them."""
        del checkpoint
        return ()

    def sidecars(self, checkpoint: Checkpoint, arguments: ExportArguments) -> Mapping[str, Any]:
        """Return files to write into the folder over copied ones, by path: JSON values, or text."""
        del checkpoint, arguments
        return {}

    def config_updates(self, checkpoint: Checkpoint) -> Mapping[str, Any]:
        """Return what ``config.json`` must say for the family's consumers."""
        del checkpoint
        return {}

    def card(self, checkpoint: Checkpoint, graphs: Sequence[GraphFile]) -> CardFacts:
        """Return what the model card says of the family, with code for the graphs that are there.

        Args:
            checkpoint: The source.
            graphs: Those of the folder, second names included.
        """
        del checkpoint, graphs
        return CardFacts(pipeline_tag=self.tasks[0])


def json_file(path: Path) -> dict[str, Any]:
    """Return a JSON object, or an empty one where there is no such file."""
    return read_object(path) if path.is_file() else {}


def _length(path: Path | None, key: str) -> int | None:
    """Return the number of tokens in a JSON file, None where it says none or no limit."""
    said = json_file(path).get(key) if path else None
    if not isinstance(said, int | float | None):
        raise InputError(f"{path}: {key} is {said!r}, not a number; correct it")
    return int(said) if said and said < UNLIMITED else None


def positional_limit(checkpoint: Checkpoint) -> int | None:
    """Return how many tokens the position embeddings allow, or None if unlimited."""
    limit = checkpoint.config.get("max_position_embeddings")
    if not isinstance(limit, int) or limit <= 0:
        return None
    if checkpoint.model_type in OFFSET_POSITIONS:
        padding = checkpoint.config.get("pad_token_id")
        limit -= (padding if isinstance(padding, int) else 1) + 1
    return limit


def onnx_config(checkpoint: Checkpoint, recipe: GraphRecipe) -> OnnxConfig:
    """Return Optimum's configuration of the architecture, with the recipe's outputs and head.

    Raises:
        InputError: If Optimum cannot export the architecture for the recipe's task.
    """
    from transformers import AutoConfig

    base = _optimum_config(checkpoint, recipe.task)
    config = AutoConfig.from_pretrained(
        checkpoint.backbone, trust_remote_code=checkpoint.trust_remote_code
    )
    return _with_recipe(base, recipe)(config, task=recipe.task)


def _optimum_config(checkpoint: Checkpoint, task: str) -> Any:
    from optimum.exporters.tasks import TasksManager

    with third_party_quiet():
        import optimum.exporters.onnx.model_configs  # noqa: F401 (fills TasksManager's table)
    try:
        return TasksManager.get_exporter_config_constructor(
            "onnx", model_type=checkpoint.model_type, task=task, library_name="transformers"
        ).func
    except (KeyError, ValueError) as error:
        if checkpoint.trust_remote_code and checkpoint.config.get("auto_map"):
            return _remote_code_config(checkpoint)
        raise InputError(
            f"{checkpoint.model_id}: Optimum cannot export the architecture "
            f"{checkpoint.model_type} for {task}; see its list of supported architectures"
        ) from error


def _remote_code_config(checkpoint: Checkpoint) -> Any:
    """Return a configuration for an encoder whose code comes with the checkpoint."""
    from optimum.exporters.onnx.config import TextEncoderOnnxConfig
    from optimum.utils import NormalizedTextConfig
    from transformers import AutoTokenizer

    names = AutoTokenizer.from_pretrained(checkpoint.backbone, trust_remote_code=True)

    class RemoteCodeOnnxConfig(TextEncoderOnnxConfig):
        NORMALIZED_CONFIG_CLASS = NormalizedTextConfig

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            """What the tokenizer gives."""
            return {name: dict(TOKEN_AXES) for name in names.model_input_names}

    return RemoteCodeOnnxConfig


def _with_recipe(base: Any, recipe: GraphRecipe) -> Any:
    class RecipeOnnxConfig(base):
        _MODEL_PATCHER: Any = _with_head(base._MODEL_PATCHER, recipe)

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            """Token inputs alone: position ids are the model's own business."""
            return {name: dict(TOKEN_AXES) for name in super().inputs if name in recipe.inputs}

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            """The recipe's outputs, in its order."""
            return {name: dict(axes) for name, axes in recipe.outputs.items()}

    return RecipeOnnxConfig


def _with_head(base: Any, recipe: GraphRecipe) -> Any:
    if recipe.head is None:
        return base
    add_outputs: Any = recipe.head

    class HeadPatcher(base):
        """While the model is traced, the head runs after it, before outputs are left out."""

        orig_forward: Any

        def __enter__(self) -> None:
            self._model.add_module("retort_head", add_outputs.to(self._model.device))
            self._alone = run_model = self.orig_forward
            signature = inspect.signature(run_model)

            @functools.wraps(run_model)
            def run_both(*args: Any, **kwargs: Any) -> dict[str, Any]:
                outputs = run_model(*args, **kwargs)
                mask = signature.bind(*args, **kwargs).arguments["attention_mask"]
                both = {**outputs, **add_outputs(outputs, mask)}
                return {name: both[name] for name in recipe.outputs}  # traced by place, not name

            self.orig_forward = run_both
            super().__enter__()

        def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
            self.orig_forward = self._alone
            super().__exit__(exc_type, exc_value, traceback)

    return HeadPatcher
