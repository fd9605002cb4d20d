"""Model families, one file each; this package finds them by their file names."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import fields
from functools import cache

from onnx_configs.base import ModelFamily
from retort.arguments import ExportArguments
from retort.artifact import Checkpoint
from retort.errors import InputError


@cache
def families() -> dict[str, ModelFamily]:
    """Return every family by name: the ``FAMILY`` of each file here but the bases."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.endswith("base"))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return {name: module.FAMILY for name, module in zip(names, modules, strict=True)}


def choose_family(checkpoint: Checkpoint, arguments: ExportArguments) -> ModelFamily:
    """Return the one family that the checkpoint is, or that the user named.

    Raises:
        InputError: If the named family or task is unknown, none or several families match, or an
            option is given that is another family's own.
    """
    family = _chosen(checkpoint, arguments)
    _refuse_options_of_others(checkpoint, family, arguments)
    return family


def _chosen(checkpoint: Checkpoint, arguments: ExportArguments) -> ModelFamily:
    known = families()
    if arguments.family != "auto" and arguments.family not in known:
        raise InputError(f"--family {arguments.family}: unknown; choose from {', '.join(known)}")
    candidates = _serving(arguments.task, known)
    if arguments.family != "auto":
        if arguments.family not in candidates:
            raise InputError(
                f"--task {arguments.task} is not a task of --family {arguments.family}; drop one"
            )
        return known[arguments.family]
    matching = [family for family in candidates.values() if family.recognises(checkpoint)]
    if len(matching) == 1:
        return matching[0]
    return _refuse(checkpoint, [family.name for family in matching], list(candidates))


def _refuse_options_of_others(
    checkpoint: Checkpoint, family: ModelFamily, arguments: ExportArguments
) -> None:
    unset = ExportArguments()
    for name in (field.name for field in fields(ExportArguments)):
        owners = [one.name for one in families().values() if name in one.own_options]
        given = getattr(arguments, name) != getattr(unset, name)
        if given and owners and family.name not in owners:
            raise InputError(
                f"--{name} is for {' and '.join(owners)}, and this is {family.name}; drop it for "
                f"{checkpoint.model_id}"
            )


def _serving(task: str, known: dict[str, ModelFamily]) -> dict[str, ModelFamily]:
    if task == "auto":
        return known
    from optimum.exporters.tasks import TasksManager

    offered = ", ".join(sorted({task for family in known.values() for task in family.tasks}))
    canonical = TasksManager.map_from_synonym(task)
    if canonical not in TasksManager.get_all_tasks():
        raise InputError(
            f"--task {task}: Optimum knows no such task; the families of Retort serve {offered}"
        )
    serving = {name: family for name, family in known.items() if canonical in family.tasks}
    if not serving:
        raise InputError(f"--task {task}: no family of Retort serves it; they serve {offered}")
    return serving


def _refuse(checkpoint: Checkpoint, matching: list[str], candidates: list[str]) -> ModelFamily:
    if matching:
        raise InputError(
            f"{checkpoint.model_id} could be {' or '.join(matching)}; name one with --family"
        )
    architectures = ", ".join(checkpoint.config.get("architectures") or ["no architectures"])
    raise InputError(
        f"{checkpoint.model_id} ({checkpoint.model_type}: {architectures}) is not recognised as "
        f"{' or '.join(candidates)}; name a --family if you know it is one"
    )
