"""The card of a finished folder to which a graph was added, or in which one was replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from retort.card.measured import FILES, files_and_figures
from retort.card.metadata import relation

_SECTIONS = re.compile(rf"^{FILES}\n.*?(?=^## (?:Use|How it was made)\n)", re.DOTALL | re.MULTILINE)
_RELATION = re.compile(r"^base_model_relation: .*\n", re.MULTILINE)
_SOURCE = re.compile(r"^base_model: .*\n", re.MULTILINE)


def updated_card(card: str, record: Mapping[str, Any]) -> str | None:
    """Return a card whose files and figures are those of ``conversion.json``; the rest stays.

    Args:
        card: What ``write_card`` wrote, perhaps with words of the user's own.
        record: What ``conversion.json`` says now.

    Returns:
        The card; None where it has no section of files, so that it is not Retort's.
    """
    if not _SECTIONS.search(card):
        return None
    text = "\n\n".join(files_and_figures(record)) + "\n\n"
    card = _SECTIONS.sub(lambda _: text, card, count=1)
    wanted = relation(record) if record["source"]["from_hub"] else None
    if wanted is None:
        return _RELATION.sub("", card, count=1)
    if _RELATION.search(card):
        return card
    return _SOURCE.sub(lambda line: f"{line[0]}base_model_relation: {wanted}\n", card, count=1)
