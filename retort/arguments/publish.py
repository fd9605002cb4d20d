"""Options that say where the finished folder is uploaded to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from retort.arguments.option import option


@dataclass(frozen=True, kw_only=True)
class PublishArguments:
    """Where the finished folder is uploaded to, if anywhere."""

    _argument_group_name: ClassVar[str] = "publish"

    push_to_hub: str | None = field(
        default=None,
        metadata=option(
            "Upload the finished folder to this repository of the Hub (org/name), in one commit; "
            "it is created if need be.",
            {"metavar": "REPO"},
        ),
    )
    private: bool = field(
        default=False, metadata=option("Create the repository of --push_to_hub as private.")
    )
    push_unvalidated: bool = field(
        default=False, metadata=option("Upload even what --skip_validation left unmeasured.")
    )
