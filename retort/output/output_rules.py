"""What an output folder may not be called, replace or harm."""

from __future__ import annotations

import os
from pathlib import Path

from retort.errors import InputError
from retort.output.exchange import leftovers

ELSEWHERE = "choose another --output_parent_dir"


def refuse_reserved_name(name: str) -> None:
    """Refuse the names of folders in the making, and names that are no names."""
    if ".partial-" in name or name in ("", ".."):
        raise InputError(f"{name!r} cannot name an output folder; choose another name")


def refuse_existing(target: Path, force: bool) -> None:
    """Refuse a target that exists, unless it is a folder that may be replaced."""
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir() or os.path.ismount(target):
        raise InputError(
            f"{target} is a file, a link or a mount point, which Retort does not replace; "
            f"move it away, or {ELSEWHERE}"
        )
    if any(target.iterdir()) and not (target / "conversion.json").is_file():
        raise InputError(
            f"{target} has no conversion.json, so Retort did not make it and does not replace it; "
            f"move it away, or {ELSEWHERE}"
        )
    if not force:
        raise InputError(f"{target} exists; pass --force to replace it")


def refuse_harm(target: Path, source: Path | None) -> None:
    """Refuse to write in the checkpoint, or to remove it or a file that it links to."""
    if source is None:
        return
    kept = [source, *(path for path in source.rglob("*") if path.is_symlink())]
    for place in (target, *leftovers(target)):
        if _holds(source, place) or any(_holds(place, path) for path in kept):
            raise InputError(
                f"writing {target} would harm the checkpoint {source}: "
                f"one of them holds the other; {ELSEWHERE}"
            )


def _holds(outer: Path, inner: Path) -> bool:
    """Return whether ``inner`` is ``outer`` or lies in it, by whatever names and links."""
    real = Path(os.path.realpath(inner))
    return outer.exists() and any(
        path.exists() and path.samefile(outer) for path in (real, *real.parents)
    )
