"""A single safetensors file of a repository: `org/name:file.safetensors`."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError

from mergekit_geo.checkpoints.adapter.files import Adapter
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.folder import open_alone, open_file, refuse_shard
from mergekit_geo.checkpoints.hub import (
    Listing,
    download,
    list_on_hub,
    not_local,
    open_on_hub,
    read_remote_header,
)
from mergekit_geo.checkpoints.hub_errors import hub_errors
from mergekit_geo.checkpoints.index import index_of, weight_files
from mergekit_geo.checkpoints.module_folders import SAFE
from mergekit_geo.checkpoints.side_files import LICENSES
from mergekit_geo.checkpoints.stated_hash import require_stated_hashes
from mergekit_geo.checkpoints.wrappers import note, refuse_factors, unwrapped
from mergekit_geo.errors import FormatError, NotFoundError
from mergekit_geo.files.hub_id import HubId

SHARD = re.compile(r"-\d+-of-\d+\.safetensors$")


def open_file_on_hub(name: str, place: HubId) -> Checkpoint | Adapter:
    """Open a safetensors file on the Hub; of its weights only the header is read.

    As on a disk, it is the model of its folder where the folder's weights are in this file.

    Args:
        name: What the user calls it.
        place: The repository, with the file in the place of a folder.

    Raises:
        NotFoundError: No such repository, revision or file.
        HubError: Gated, or no network.
        CheckpointError: It cannot be used.
    """
    below, _, file = place.subfolder.rpartition("/")
    home = replace(place, subfolder=below)
    if constants.HF_HUB_OFFLINE:
        return _cached(name, home, file)
    listing = list_on_hub(name, home)
    if file not in listing.files:
        there = sorted(one for one in listing.files if one.endswith(SAFE))
        raise NotFoundError(
            f"{place.repo} has no file {place.subfolder}",
            where=name,
            remedy=f"files in it: {', '.join(there) or 'none'}",
        )
    if SHARD.search(file):
        refuse_shard(name, str(home))
    if _holds_all(listing.files, file):
        return open_on_hub(name, home)
    with hub_errors(name, place.repo, place.revision):
        return _open(name, home, file, listing)


def _open(name: str, home: HubId, file: str, listing: Listing) -> Checkpoint:
    _, commit = download(home, LICENSES)
    stored = read_remote_header(commit, file, name)
    refuse_factors(stored, name)
    tensors = unwrapped(stored, {}, name)
    return Checkpoint(
        name=name,
        tensors=tensors,
        read=not_local,
        fingerprint=lambda: str(replace(commit, subfolder=commit.file(file))),
        revision=commit.revision,
        is_local=False,
        fetched=partial(_fetched, commit, file, listing),
        files=(file,),
        license=listing.license,
        renamed=note(stored, tensors, name),
    )


def _fetched(home: HubId, file: str, listing: Listing, checkpoint: Checkpoint) -> Checkpoint:
    """Download the file."""
    with hub_errors(checkpoint.name, home.repo, home.revision):
        folder, _ = download(home, [file])
    require_stated_hashes(folder, [file], checkpoint.name, listing.hashes)
    found = open_alone(folder / file, checkpoint.name)
    return replace(found, revision=checkpoint.revision, license=checkpoint.license)


def _cached(name: str, home: HubId, file: str) -> Checkpoint:
    """The file in the cache, in offline mode."""
    with hub_errors(name, home.repo, home.revision):
        folder, commit = download(home, [file], local=True)
        if not (folder / file).is_file():
            raise LocalEntryNotFoundError(f"{file} of {home} is not in the cache")
    return replace(open_file(folder / file, name), revision=commit.revision)


def _holds_all(names: Collection[str], file: str) -> bool:
    """Whether a folder with a configuration has its weights in this file."""
    try:
        single = index_of(names) is None and weight_files(names, Path(), "") == [file]
    except FormatError:
        return False
    return single and "config.json" in names
