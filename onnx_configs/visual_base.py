"""What the families of visual document retrieval share: variants, export, reference, validation."""

from __future__ import annotations

import functools
import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from onnx_configs.base import TOKEN_AXES, GraphRecipe, ModelFamily, Tensors
from onnx_configs.config_base import Axes, in_place_of
from retort.arguments import ExportArguments
from retort.artifact import Checkpoint
from retort.card.facts import CardFacts, GraphFile
from retort.card.visual import QUERY, visual_usages
from retort.fidelity import row_cosines
from retort.fusions.skip_images import skip_images
from retort.runtime.folder import Folder
from retort.runtime.visual_prompts import VisualPrompts

if TYPE_CHECKING:
    import onnx
    import torch
    from optimum.exporters.onnx import OnnxConfig

MERGE_NODE = "/retort_graph/merge/Where"  # named after the scope that the graph is traced in
STEMS: Mapping[Literal["combined", "text", "image"], str] = {
    "combined": "model",
    "text": "text_model",
    "image": "image_model",
}


class VisualFamily(ModelFamily):
    """Checkpoints whose use is a vector for each token of a query or patch of a page."""

    tasks = ("feature-extraction",)
    fidelity_unit = "cosine of token embeddings"
    own_options = ("visual_variant",)
    per_row = True  # a few tokens of images and of long texts have very large activations
    architecture: ClassVar[str]
    image_inputs: ClassVar[Axes]

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Tell it by the architecture in config.json."""
        return self.architecture in (checkpoint.config.get("architectures") or [])

    def check_architecture(self, checkpoint: Checkpoint) -> None:
        """Accept the architecture, which Optimum need not know."""
        del checkpoint

    def graphs(self, arguments: ExportArguments) -> Mapping[str, ExportArguments]:
        """Return one graph, or one for each variant."""
        if arguments.visual_variant != "all":
            return {"model": arguments}
        return {stem: replace(arguments, visual_variant=variant) for variant, stem in STEMS.items()}

    def recipe(self, checkpoint: Checkpoint, arguments: ExportArguments) -> GraphRecipe:
        """Return the vectorised model, its vision tower in an ``If`` where both kinds are taken."""
        import transformers

        variant = arguments.visual_variant
        images = {} if variant == "text" else self.image_inputs
        return GraphRecipe(
            self.tasks[0],
            outputs={"embeddings": TOKEN_AXES},
            inputs=("input_ids", "attention_mask", *images),
            model_class=getattr(transformers, self.architecture),
            rewrite=_put_images_aside if variant == "combined" else None,
        )

    @abstractmethod
    def graph(self, model: Any, *, images: bool) -> torch.nn.Module:
        """Return the model as it is traced, called with the inputs in the recipe's order."""

    @abstractmethod
    def dummies(self, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
        """Return inputs to trace with: rows with and without an image, some of them padded."""

    def onnx_config(self, checkpoint: Checkpoint, recipe: GraphRecipe) -> OnnxConfig:
        """Return a configuration of our own, for Optimum has none."""
        from transformers import AutoConfig

        axes = {"input_ids": TOKEN_AXES, "attention_mask": TOKEN_AXES, **self.image_inputs}
        inputs = {name: axes[name] for name in recipe.inputs}
        values = self.dummies(checkpoint)
        images = len(inputs) > len(TEXT_ONLY)
        make_graph = functools.partial(self.graph, images=images)
        kind = _config_class(inputs, recipe.outputs, values, make_graph)
        config = AutoConfig.from_pretrained(checkpoint.backbone)
        return kind(config, task=recipe.task)

    def fidelity(
        self, expected: Tensors, actual: Tensors, mask: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return the cosine of every token embedding that MaxSim would use."""
        counted = mask.astype(bool)
        return row_cosines(expected["embeddings"][counted], actual["embeddings"][counted])

    def vocabulary(self, checkpoint: Checkpoint) -> int:
        """Return the ids below the image token, which stands for no text."""
        text = self.language_config(checkpoint)
        return min(int(text.get("vocab_size") or 2), self.image_token(checkpoint))

    def language_config(self, checkpoint: Checkpoint) -> Mapping[str, Any]:
        """Return the configuration of the language model."""
        vlm: Mapping[str, Any] = checkpoint.config.get("vlm_config") or {}
        return vlm.get("text_config") or vlm

    @abstractmethod
    def image_token(self, checkpoint: Checkpoint) -> int:
        """Return the id of the token that an image's features take the place of."""

    def card(self, checkpoint: Checkpoint, graphs: Sequence[GraphFile]) -> CardFacts:
        """Return code that encodes queries and pages, and scores them."""
        folder = Folder(checkpoint.backbone)
        (ids,) = self.prompts(folder).queries([QUERY])["input_ids"].tolist()
        return CardFacts(
            pipeline_tag="visual-document-retrieval",
            tags=("late-interaction", "multi-vector", self.name),
            usages=visual_usages(graphs, ids, self.no_images(checkpoint)),
        )

    @abstractmethod
    def prompts(self, folder: Folder) -> VisualPrompts:
        """Return what surrounds queries and pages."""

    @abstractmethod
    def no_images(self, checkpoint: Checkpoint) -> Mapping[str, str]:
        """Return, for each image input, the numpy code of what stands for no image."""

    def answers(self, model: Any, text: str) -> list[str]:
        """Return the shape and first numbers of the text as a query."""
        vectors = model.encode_queries(text)
        first = ", ".join(f"{value:.4f}" for value in vectors.ravel()[:4])
        return [f"query {vectors.shape[0]}×{vectors.shape[1]}: {first}, …"]


TEXT_ONLY = ("input_ids", "attention_mask")


def _put_images_aside(model: onnx.ModelProto) -> None:
    skip_images(model, MERGE_NODE, "pixel_values")


def _config_class(
    inputs: Axes,
    outputs: Axes,
    values: Mapping[str, torch.Tensor],
    make_graph: Callable[[Any], torch.nn.Module],
) -> Any:
    from optimum.exporters.onnx.base import OnnxConfig
    from optimum.exporters.onnx.model_patcher import ModelPatcher
    from optimum.utils import NormalizedConfig

    class VisualPatcher(ModelPatcher):
        """The vectorised graph in the place of the model, which is used up."""

        orig_forward: Any

        def __enter__(self) -> None:
            graph = make_graph(self._model).eval()
            self._model._modules.clear()  # or every weight would be traced under two names
            self._model.add_module("retort_graph", graph)

            def run_graph(given: inspect.BoundArguments) -> dict[str, Any]:
                results: dict[str, Any] = graph(*(given.arguments[name] for name in inputs))
                return results

            self.orig_forward = in_place_of(self.orig_forward, run_graph)
            super().__enter__()

    class VisualOnnxConfig(OnnxConfig):
        NORMALIZED_CONFIG_CLASS = NormalizedConfig
        _MODEL_PATCHER = VisualPatcher

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            """Tokens and images."""
            return {name: dict(axes) for name, axes in inputs.items()}

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            """The recipe's."""
            return {name: dict(axes) for name, axes in outputs.items()}

        def generate_dummy_inputs(self, framework: str = "pt", **_: Any) -> dict[str, Any]:
            """Return the family's: random ids could hit the image token."""
            del framework
            return {name: values[name] for name in inputs}

    return VisualOnnxConfig
