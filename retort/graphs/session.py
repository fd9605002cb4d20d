"""ONNX Runtime sessions as the stages open them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx


def open_session(path: Path, *, spinning: bool = True, arena: bool = True) -> Any:
    """Open a graph on the CPU with ONNX Runtime's default optimizations, saying errors only.

    Args:
        path: The graph.
        spinning: Whether threads wait busily after a run, ONNX Runtime's default; without it a
            session does not slow what runs beside it.
        arena: Whether memory is kept from run to run, ONNX Runtime's default; without it a session
            gives back what its largest run took.
    """
    return _open(str(path), spinning=spinning, arena=arena)


def open_session_of(model: onnx.ModelProto) -> Any:
    """Open a graph that is in memory, for a single pass over some texts."""
    return _open(model.SerializeToString(), spinning=False, arena=False)


def _open(graph: str | bytes, *, spinning: bool, arena: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = arena
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
