"""ONNX Runtime sessions as the stages open them."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def open_session(path: Path, *, spinning: bool = True, arena: bool = True) -> Any:
    """Open a graph on the CPU with ONNX Runtime's default optimizations, saying errors only.

    Args:
        path: The graph.
        spinning: Whether threads wait busily after a run, ONNX Runtime's default; without it a
            session does not slow what runs beside it.
        arena: Whether memory is kept from run to run, ONNX Runtime's default; without it a session
            gives back what its largest run took.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = arena
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
