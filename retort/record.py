"""``conversion.json``: everything needed to know, and to replay, how a folder was made."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from retort import __version__
from retort.arguments import ConversionArguments
from retort.artifact import Artifact
from retort.graphs.onnx_file import summarize
from retort.json_files import write_json
from retort.page import REPORT
from retort.plan import Plan
from retort.report import ValidationReport

LIBRARIES = (
    "torch", "transformers", "optimum", "optimum-onnx", "sentence-transformers", "onnx",
    "onnxruntime", "huggingface-hub",
)  # fmt: skip
# Secrets, and what concerns the machine rather than the conversion.
UNRECORDED = frozenset(
    {
        "token", "cache_dir", "output_parent_dir", "output_dir", "force", "dry_run", "quiet",
        "verbose", "json", "push_to_hub", "private", "push_unvalidated",
    }
)  # fmt: skip


def write_record(
    folder: Path,
    arguments: ConversionArguments,
    plan: Plan,
    placed: Mapping[str, Artifact],
    links: Mapping[str, str],
    report: ValidationReport | None,
) -> None:
    """Write ``conversion.json`` into a folder; a skipped validation is recorded as null.

    ``report`` there names the page that ``write_page`` writes.
    """
    chosen = {key: value for key, value in asdict(arguments).items() if key not in UNRECORDED}
    record: dict[str, Any] = {
        "family": plan.family.name,
        "source": {
            "model_id": plan.checkpoint.name,
            "commit": plan.checkpoint.commit,
            "from_hub": plan.checkpoint.commit is not None,
        },
        "arguments": {**chosen, "model_id": plan.checkpoint.name},
        "versions": {
            "retort": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
        "files": {name: file_record(artifact) for name, artifact in placed.items()},
        "links": dict(links),
        "validated": report is not None,
        "validation": report.as_json() if report else None,
        "report": REPORT if report else None,
    }
    write_json(folder / "conversion.json", record)


def file_record(artifact: Artifact) -> dict[str, Any]:
    """Return the entry of one graph in ``conversion.json``."""
    summary = summarize(artifact.path)
    return {
        "precision": artifact.precision,
        "opset": summary.opset,
        "ir_version": summary.ir_version,
        "inputs": list(summary.inputs),
        "outputs": list(summary.outputs),
        "nodes": summary.nodes,
        "fused_operators": dict(summary.fused_operators),
        "steps": [asdict(step) for step in artifact.steps],
    }
