"""Adapters on the Hub: configuration and header first, data only once it is known to fit."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from huggingface_hub import snapshot_download

from mergekit_geo.checkpoints.adapter.files import (
    ADAPTER_WEIGHTS,
    Adapter,
    open_adapter,
    refuse_unreadable_adapter,
)
from mergekit_geo.checkpoints.adapter.settings import ADAPTER_CONFIG, read_settings
from mergekit_geo.checkpoints.hub import (
    Listing,
    download_beside,
    hub_errors,
    not_local,
    read_remote_header,
    require_files,
)
from mergekit_geo.checkpoints.side_files import wanted_on_hub
from mergekit_geo.checkpoints.stated_hash import require_stated_hashes


def adapter_on_hub(name: str, repo: str, revision: str | None, listing: Listing) -> Adapter:
    """An adapter on the Hub whose header has been read and whose weights have not.

    Args:
        name: What the user calls it.
        repo: `org/name`.
        revision: Branch, tag or commit; None is the main branch.
        listing: What the repository says of itself.

    Raises:
        UnsupportedError: Pickled, or of a kind that is refused.
        FormatError: The files contradict themselves.
        HubError: The Hub could not be asked.
    """
    refuse_unreadable_adapter(name, listing.files)
    with hub_errors(name, repo, revision):
        patterns = [ADAPTER_CONFIG, *wanted_on_hub(listing.files)]
        folder = download_beside(repo, revision, patterns, listing.files)
        require_files(folder, name, listing.hashes)
        return Adapter(
            name=name,
            folder=folder,
            settings=read_settings(folder / ADAPTER_CONFIG, name),
            tensors=read_remote_header(repo, ADAPTER_WEIGHTS, folder.name, name),
            read=not_local,
            fingerprint=lambda: [repo, folder.name],
            revision=folder.name,
            is_local=False,
            fetched=partial(_fetched, repo, listing.hashes),
        )


def _fetched(repo: str, hashes: Mapping[str, str], adapter: Adapter) -> Adapter:
    """Download the weights."""
    with hub_errors(adapter.name, repo, adapter.revision):
        folder = snapshot_download(
            repo, revision=adapter.revision, allow_patterns=[ADAPTER_WEIGHTS]
        )
    require_stated_hashes(Path(folder), [ADAPTER_WEIGHTS], adapter.name, hashes)
    return open_adapter(Path(folder), adapter.name, adapter.revision)
