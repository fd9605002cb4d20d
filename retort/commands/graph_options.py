"""Options that several verbs on graph files have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FP32_FILE: Mapping[str, Any] = {
    "type": Path,
    "metavar": "FILE",
    "help": "an fp32 .onnx file, or a folder with one",
}
SKIP_SHAPE_INFERENCE: Mapping[str, Any] = {
    "action": "store_true",
    "help": "leave symbolic shape inference out, for graphs on which it fails",
}
FORCE: Mapping[str, Any] = {"action": "store_true", "help": "replace an existing file"}
