"""The ONNX configuration and patcher that families share, out of Optimum's for an architecture."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from retort.artifact import Checkpoint
from retort.errors import InputError
from retort.talk import third_party_quiet

if TYPE_CHECKING:
    import torch
    from optimum.exporters.onnx import OnnxConfig

Axes = Mapping[str, Mapping[int, str]]


def onnx_config(
    checkpoint: Checkpoint, task: str, inputs: Axes, outputs: Axes, head: torch.nn.Module | None
) -> OnnxConfig:
    """Return Optimum's configuration of the architecture, with a head after it.

    Args:
        checkpoint: The source.
        task: The Optimum task.
        inputs: Which inputs the graph may take, with their axes; the architecture's others are
            constant inside.
        outputs: The graph's outputs with their axes, in their order.
        head: What makes the outputs that the architecture lacks; None where it has them all.

    Raises:
        InputError: If Optimum cannot export the architecture for the task.
    """
    from transformers import AutoConfig

    base = exporter_config(checkpoint, task)
    config = AutoConfig.from_pretrained(
        checkpoint.backbone, trust_remote_code=checkpoint.trust_remote_code
    )
    return _with_head(base, inputs, outputs, head)(config, task=task)


def exporter_config(checkpoint: Checkpoint, task: str) -> Any:
    """Return the class of Optimum's configuration for the architecture.

    Raises:
        InputError: If Optimum has none for the task, nor the checkpoint code that may run.
    """
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
            axes = {0: "batch_size", 1: "sequence_length"}
            return dict.fromkeys(names.model_input_names, axes)

    return RemoteCodeOnnxConfig


def _with_head(base: Any, allowed: Axes, wanted: Axes, head: torch.nn.Module | None) -> Any:
    patcher = base._MODEL_PATCHER

    class HeadOnnxConfig(base):
        _MODEL_PATCHER: Any = patcher if head is None else _head_patcher(patcher, head, wanted)

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            """Token inputs alone: position ids are the model's own business."""
            return {name: dict(allowed[name]) for name in super().inputs if name in allowed}

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            """Those of the backbone and the head, in their order."""
            return {name: dict(axes) for name, axes in wanted.items()}

    return HeadOnnxConfig


def in_place_of(
    run_model: Callable[..., Any], run: Callable[[inspect.BoundArguments], dict[str, Any]]
) -> Callable[..., dict[str, Any]]:
    """Return what is traced instead of a model: it has the model's signature, as Optimum asks.

    Args:
        run_model: The model's own forward.
        run: Takes what the forward is called with, and returns the outputs by name.
    """
    signature = inspect.signature(run_model)

    # Of every model it stands for, it takes what that model's own forward takes.
    @functools.wraps(run_model)
    def forward(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return run(signature.bind(*args, **kwargs))

    return forward


def _head_patcher(base: Any, head: Any, names: Iterable[str]) -> Any:
    class HeadPatcher(base):
        """While the model is traced, the head runs after it, before outputs are left out."""

        orig_forward: Any

        def __enter__(self) -> None:
            self._model.add_module("retort_head", head.to(self._model.device))
            self._alone = run_model = self.orig_forward

            def run_both(given: inspect.BoundArguments) -> dict[str, Any]:
                outputs = run_model(*given.args, **given.kwargs)
                both = {**outputs, **head(outputs, given.arguments["attention_mask"])}
                return {name: both[name] for name in names}  # traced by place, not name

            self.orig_forward = in_place_of(run_model, run_both)
            super().__enter__()

        def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
            self.orig_forward = self._alone
            super().__exit__(exc_type, exc_value, traceback)

    return HeadPatcher
