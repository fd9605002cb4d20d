"""Options that say where a checkpoint comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from retort.arguments.option import option


@dataclass(frozen=True, kw_only=True)
class SourceArguments:
    """Where the checkpoint comes from."""

    _argument_group_name: ClassVar[str] = "source"

    model_id: str = field(
        metadata=option("Hugging Face id (org/name) or local folder of the checkpoint to convert.")
    )
    revision: str | None = field(
        default=None,
        metadata=option("Branch, tag or commit on the Hub; the default branch if unset."),
    )
    token: str | None = field(
        default=None,
        metadata=option("Hub access token; HF_TOKEN or the stored login is used if unset."),
    )
    cache_dir: str | None = field(
        default=None, metadata=option("Folder for Hub downloads; huggingface_hub's own if unset.")
    )
    trust_remote_code: bool = field(
        default=False,
        metadata=option("Run Python code that the checkpoint brings. Read that code first."),
    )
    allow_pickle: bool = field(
        default=False,
        metadata=option(
            "Accept pickle weights (pytorch_model.bin) where there are no safetensors; "
            "they are loaded with weights_only=True."
        ),
    )
