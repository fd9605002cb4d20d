"""Options that say how the result is checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from retort.arguments.option import option


@dataclass(frozen=True, kw_only=True)
class ValidateArguments:
    """How the result is checked."""

    _argument_group_name: ClassVar[str] = "validate"

    skip_validation: bool = field(
        default=False,
        metadata=option("Only check that the files load; the folder then says so."),
    )
    verify: bool = field(
        default=False,
        metadata=option(
            "Run sample texts through the finished files and print what they answer, with the "
            "PyTorch model's answer where it differs."
        ),
    )
    verify_text: list[str] = field(
        default_factory=list,
        metadata=option(
            "Text for --verify, which it turns on; repeatable; unset takes the checkpoint's "
            "verify_texts.txt.",
            {"action": "extend", "metavar": "TEXT"},
        ),
    )
