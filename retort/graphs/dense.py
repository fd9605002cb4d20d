"""The layers after a backbone that sentence-transformers and PyLate share, written for tracing."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from retort.artifact import Checkpoint
from retort.errors import InputError
from retort.json_files import read_object


class Normalize(nn.Module):
    """L2 normalisation of the last axis."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Return vectors of length one; a zero vector stays zero."""
        # ONNX Runtime's shape inference fails on what vector_norm and normalize trace to.
        lengths = torch.sqrt((vectors * vectors).sum(dim=-1, keepdim=True))
        return vectors / lengths.clamp(min=1e-12)


class Dense(nn.Module):
    """A linear layer, its activation and, where PyLate adds one, a residual connection."""

    def __init__(
        self, linear: nn.Linear, activation: nn.Module, residual: nn.Module | None
    ) -> None:
        super().__init__()
        # By their names in saved weights; some activations have weights too.
        self.linear = linear
        self.activation_function = activation
        self.residual = residual

    def forward(self, vectors: Tensor) -> Tensor:
        """Return float32 ``[..., out_features]`` of ``[..., in_features]``."""
        projected: Tensor = self.activation_function(self.linear(vectors))
        return projected if self.residual is None else projected + self.residual(vectors)


def load_dense(checkpoint: Checkpoint, folder: Path) -> Dense:
    """Return the Dense module saved in a folder, by sentence-transformers or by PyLate, as fp32.

    Raises:
        InputError: If its files are missing or say something unknown.
    """
    path = folder / "config.json"
    settings = read_object(path)
    try:
        before, after = int(settings["in_features"]), int(settings["out_features"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: no in_features and out_features; save the module again"
        ) from error
    residual: nn.Module | None = None
    if settings.get("use_residual"):
        # PyLate saves a matrix for the residual only where the widths differ.
        residual = nn.Identity() if before == after else nn.Linear(before, after, bias=False)
    dense = Dense(
        nn.Linear(before, after, bool(settings.get("bias", True))),
        _activation(settings.get("activation_function"), path),
        residual,
    )
    load_weights(dense, checkpoint, folder)
    return dense


def load_linear(checkpoint: Checkpoint, folder: Path, name: str) -> nn.Linear:
    """Return a linear layer without bias from one weight, ``[out, in]``, among others of a folder.

    Raises:
        InputError: If the folder has no such weight.
    """
    weight = read_weights(checkpoint, folder, only=(name,)).get(name)
    if weight is None:
        raise InputError(f"{folder}: the weights lack {name}; check the checkpoint")
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.load_state_dict({"weight": weight.to(torch.float32)})
    return linear


def load_weights(layer: nn.Module, checkpoint: Checkpoint, folder: Path, prefix: str = "") -> None:
    """Load a layer's weights from the safetensors of a folder, or a pickle where that is allowed.

    Raises:
        InputError: If there are none, or they do not fit.
    """
    weights = read_weights(checkpoint, folder)
    try:
        layer.load_state_dict(
            {key.removeprefix(prefix): value.to(torch.float32) for key, value in weights.items()}
        )
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise InputError(f"{folder}: weights and config.json disagree ({problem})") from error


def read_weights(
    checkpoint: Checkpoint, folder: Path, only: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Return the weights saved in a folder by name, or only those named.

    Raises:
        InputError: If there are none, or only a pickle and that is not allowed.
    """
    from safetensors import safe_open

    safe, pickle = folder / "model.safetensors", folder / "pytorch_model.bin"
    if safe.is_file():
        with safe_open(safe, framework="pt") as file:
            names = file.keys() if not only else set(only).intersection(file.keys())
            return {name: file.get_tensor(name) for name in names}
    if pickle.is_file() and checkpoint.allow_pickle:
        weights = torch.load(pickle, map_location="cpu", weights_only=True)
        return {key: value for key, value in weights.items() if not only or key in only}
    hint = "pass --allow_pickle if you trust it" if pickle.is_file() else "fetch it again"
    raise InputError(f"{safe}: not found; {hint}")


def _activation(name: str | None, path: Path) -> nn.Module:
    # Only torch's own layers: a name from a checkpoint must not import anything else.
    package, _, layer = (name or "torch.nn.modules.linear.Identity").rpartition(".")
    kind = getattr(nn, layer, None) if package.startswith("torch.nn") else None
    if isinstance(kind, type) and issubclass(kind, nn.Module):
        with suppress(TypeError):  # it takes arguments, which no config.json tells
            return kind()
    raise InputError(f"{path}: {name} is not an activation of torch.nn")
