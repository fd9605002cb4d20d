"""What a model family is: the one file to read before writing one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from onnx_configs.config_base import Axes, exporter_config, onnx_config
from retort.arguments import PRECISIONS, ExportArguments, Layout
from retort.artifact import Checkpoint
from retort.card.facts import CardFacts, GraphFile
from retort.fidelity import Distance
from retort.source.lengths import maximum_length

if TYPE_CHECKING:
    import onnx
    import torch
    from optimum.exporters.onnx import OnnxConfig

Tensors = dict[str, npt.NDArray[Any]]
TOKEN_AXES = {0: "batch_size", 1: "sequence_length"}
BATCH_AXES = {0: "batch_size"}
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
    outputs: Axes
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
    own_options: ClassVar[Sequence[str]] = ()  # of ``ExportArguments``; other families refuse them
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
        exporter_config(checkpoint, self.tasks[0])

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
        inputs = dict.fromkeys(recipe.inputs, TOKEN_AXES)
        return onnx_config(checkpoint, recipe.task, inputs, recipe.outputs, recipe.head)

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
        return maximum_length(checkpoint)

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
