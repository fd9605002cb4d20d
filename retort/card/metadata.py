"""The front matter of a model card: what the Hub sorts and filters models by."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from retort.card.facts import CardFacts
from retort.source.hub import is_hub_id

logger = logging.getLogger(__name__)

README = "README.md"
HUB = "https://huggingface.co"
# Tags that say which library or weights a repository has, or what was measured of its source.
_OF_THE_SOURCE = frozenset(
    {
        "transformers", "sentence-transformers", "pylate", "pytorch", "tf", "tensorflow", "jax",
        "flax", "rust", "safetensors", "openvino", "coreml", "gguf", "ggml", "mlx", "bitsandbytes",
        "onnx", "transformers.js", "text-embeddings-inference", "text-generation-inference",
        "endpoints_compatible", "autotrain_compatible", "generated_from_trainer", "custom_code",
        "mteb", "model-index", "retort",
    }
)  # fmt: skip


def source_metadata(folder: Path) -> dict[str, Any]:
    """Return the front matter of a checkpoint's README.md, {} where it has none that can be read.

    A broken one is no reason to stop: it is logged, and left out.
    """
    path = folder / README
    if not path.is_file():
        return {}
    try:
        found = REGEX_YAML_BLOCK.search(path.read_text(encoding="utf-8"))
        said = yaml.safe_load(found[2]) if found else {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())
        logger.warning("%s: its front matter is left out of the new card (%s)", path, told)
        return {}
    if not isinstance(said, Mapping | None):
        logger.warning("%s: its front matter is no mapping, and left out of the new card", path)
        return {}
    return dict(said or {})


def front_matter(
    folder: Path, record: Mapping[str, Any], said: Mapping[str, Any], facts: CardFacts
) -> str:
    """Return the YAML for a converted folder.

    The evaluation results of the source stay there: nobody measured them on these files.

    Args:
        folder: The converted folder.
        record: What its ``conversion.json`` says.
        said: The front matter of the source.
        facts: What the family tells.
    """
    source = record["source"]
    from_hub = source["from_hub"]
    data = ModelCardData(
        license=_words(said.get("license")),  # type: ignore[arg-type] # the Hub takes lists too
        license_name=_text(said.get("license_name")),
        license_link=_licence_link(folder, source, _text(said.get("license_link"))),
        language=_languages(said.get("language")),
        base_model=source["model_id"] if from_hub else _base_models(said.get("base_model")),
        base_model_relation=relation(record) if from_hub else None,
        library_name=facts.library_name,
        pipeline_tag=facts.pipeline_tag,
        tags=_tags(said.get("tags"), facts.tags),
        datasets=_words(said.get("datasets")),
    )
    return data.to_yaml()


def names_licence(said: Mapping[str, Any]) -> bool:
    """Tell whether the front matter of the source names a licence."""
    return _words(said.get("license")) is not None


def relation(record: Mapping[str, Any]) -> str | None:
    """Return what the folder is to its source in the Hub's words, None where they have none."""
    # Of the four that the Hub knows, none is a change of format: it is for lower precision alone.
    precisions = {told["precision"] for told in record["files"].values()}
    return "quantized" if precisions - {"fp32", "Float16"} else None


def _licence_link(folder: Path, source: Mapping[str, Any], link: str | None) -> str | None:
    """Return a link that leads there from the new folder as well."""
    if link is None or re.match(r"https?://", link) or (folder / link).is_file():
        return link
    if not source["from_hub"]:
        return None
    return f"{HUB}/{source['model_id']}/blob/{source['commit']}/{link}"


def _base_models(value: object) -> str | list[str] | None:
    """Return what can be ids of the Hub; trainers write local paths there, too."""
    ids = [name for name in _list(value) if is_hub_id(name) and not Path(name).exists()]
    return ids[0] if len(ids) == 1 else ids or None


def _tags(value: object, of_family: Iterable[str]) -> list[str]:
    kept = [tag for tag in _list(value) if tag.lower() not in _OF_THE_SOURCE and ":" not in tag]
    return list(dict.fromkeys(["onnx", "retort", *of_family, *kept]))


def _words(value: object) -> str | list[str] | None:
    """Return one text, or a list of them; None for anything else."""
    words = _list(value)
    return (words or None) if isinstance(value, list) else next(iter(words), None)


def _languages(value: object) -> str | list[str] | None:
    # YAML takes the code of Norwegian, no, for a truth value.
    if isinstance(value, list):
        return _words(["no" if item is False else item for item in value])
    return "no" if value is False else _words(value)


def _list(value: object) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [text for text in map(_text, items) if text]


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None
