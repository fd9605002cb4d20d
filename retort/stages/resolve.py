"""The first stage: turn what the user calls the model into files at a known commit."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from retort.artifact import Checkpoint
from retort.errors import InputError
from retort.source.adapters import refuse_adapter
from retort.source.checkpoint_checks import check_config, check_metadata, check_modules
from retort.source.checkpoint_layout import backbone_folder, metadata_files, names_in, parts_of
from retort.source.local_source import folder_name, local_folder
from retort.source.remote_code import check_remote_code
from retort.source.weights import check_weights, weight_files

if TYPE_CHECKING:
    from retort.arguments import SourceArguments
    from retort.source.hub import HubModel, Listing

logger = logging.getLogger(__name__)


def resolve(
    source: SourceArguments, *, with_weights: bool = True, progress: bool = True
) -> Checkpoint:
    """Return the checkpoint that ``source`` names, after checking that it can be converted.

    A local folder is read in place, without any network. From the Hub come only the files that a
    conversion needs, at one commit, and nothing large before the small files have been checked.

    Args:
        source: The model and how it may be fetched.
        with_weights: Whether to download and check the weights as well.
        progress: Whether to show download progress, if stderr is a terminal.

    Raises:
        InputError: If the model is not there or not to be had, damaged, in a format that cannot
            be converted, or needs a permission that was not given.
        ConversionError: If the network, the Hub or the disk fails.
    """
    path = local_folder(source.model_id)
    if path is None:
        return _from_hub(source, with_weights=with_weights, progress=progress)
    if source.revision is not None:
        raise InputError(f"--revision is for Hub ids, and {source.model_id} is a folder; drop it")
    folder = path.resolve()
    refuse_adapter(folder, source.model_id, names_in(folder, parts_of(folder)))
    checkpoint = _checked(source, folder, folder_name(path), commit=None)
    if with_weights:
        _check_local_weights(checkpoint)
    return checkpoint


def _checked(source: SourceArguments, folder: Path, name: str, commit: str | None) -> Checkpoint:
    """Check the small files of a checkpoint, and return its value."""
    config = check_config(folder)
    backbone = backbone_folder(folder)
    check_modules(folder)
    where = f"{name} at commit {commit}" if commit else str(folder)
    check_remote_code(folder, where, trust_remote_code=source.trust_remote_code)
    check_metadata(folder)
    return Checkpoint(
        model_id=source.model_id,
        name=name,
        folder=folder,
        config=config,
        commit=commit,
        subfolder="" if backbone == folder else backbone.relative_to(folder).as_posix(),
        trust_remote_code=source.trust_remote_code,
        allow_pickle=source.allow_pickle,
    )


def _check_local_weights(checkpoint: Checkpoint) -> None:
    folder = checkpoint.folder
    names = names_in(folder, parts_of(folder))
    check_weights(folder, weight_files(folder, names, allow_pickle=checkpoint.allow_pickle))


def _from_hub(source: SourceArguments, *, with_weights: bool, progress: bool) -> Checkpoint:
    # A local folder needs nothing of the Hub, not even its library.
    from retort.source import hub
    from retort.source.hub_errors import HubUnreachableError

    if not hub.is_hub_id(source.model_id):
        raise InputError(
            f"{source.model_id!r}: neither a local folder nor a Hub id such as org/name; "
            "check the spelling"
        )
    cache_dir = str(Path(source.cache_dir).expanduser()) if source.cache_dir else None
    model = hub.HubModel(source.model_id, source.revision, source.token or None, cache_dir)
    hub.check_request(model)
    if hub.is_offline():
        return _from_cache(source, model, with_weights=with_weights)
    try:
        listing = hub.list_files(model)
    except HubUnreachableError as error:
        if hub.cached_snapshot(model) is None:
            raise
        return _from_cache(source, model, with_weights=with_weights, reason=f"{error}; ")
    return _download(source, listing, with_weights=with_weights, progress=progress)


def _download(
    source: SourceArguments, listing: Listing, *, with_weights: bool, progress: bool
) -> Checkpoint:
    from retort.source import hub

    names = listing.files
    small = metadata_files(names, [""])
    if not small:
        raise InputError(
            f"{source.model_id} at commit {listing.commit}: has no config.json, so it is no "
            "transformers checkpoint; check the id"
        )
    folder = hub.download(listing, small, progress=False)
    more = set(metadata_files(names, parts_of(folder))) - set(small)
    if source.trust_remote_code:
        more |= {name for name in names if name.endswith(".py")}
    if more:
        hub.download(listing, sorted(more), progress=False)
    refuse_adapter(folder, source.model_id, names)
    checkpoint = _checked(source, folder, source.model_id, listing.commit)
    if with_weights:
        weights = weight_files(folder, names, allow_pickle=source.allow_pickle)
        hub.download(listing, weights, progress=progress)
        check_weights(folder, weights)
    return checkpoint


def _from_cache(
    source: SourceArguments, model: HubModel, *, with_weights: bool, reason: str = ""
) -> Checkpoint:
    from retort.source import hub

    folder = hub.cached_snapshot(model)
    if folder is None:
        raise InputError(
            f"{source.model_id}: not a local folder, HF_HUB_OFFLINE is set, and there is no cached "
            f"copy of revision {source.revision or 'main'}; run once without HF_HUB_OFFLINE"
        )
    # Whoever asked for this very commit misses nothing.
    logger.log(
        logging.INFO if source.revision == folder.name else logging.WARNING,
        "%susing the cached copy of %s at commit %s; the Hub may have a newer one, "
        "and files never downloaded are not seen",
        reason,
        source.model_id,
        folder.name,
    )
    try:
        refuse_adapter(folder, source.model_id, names_in(folder, parts_of(folder)))
        checkpoint = _checked(source, folder, source.model_id, folder.name)
        if with_weights:
            _check_local_weights(checkpoint)
    except InputError as error:
        raise InputError(f"{error} (in a cached copy: if a file is missing, run online)") from error
    return checkpoint
