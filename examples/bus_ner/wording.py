"""The word lists and the grammar of ``wording/*.txt``."""

from __future__ import annotations

from pathlib import Path

Sections = dict[str, tuple[str, ...]]


def read_sections(name: str) -> Sections:
    """Read ``wording/<name>.txt``: after a line ``# TITLE``, one entry a line.

    An entry that stands there twice is drawn twice as often.
    """
    path = Path(__file__).with_name("wording") / f"{name}.txt"
    sections: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            title = line[2:]
            sections[title] = []
        else:
            sections[title].append(line)
    return {title: tuple(entries) for title, entries in sections.items()}
