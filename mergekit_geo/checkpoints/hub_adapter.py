"""Adapters on the Hub: configuration and header first, data only once it is known to fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from huggingface_hub import snapshot_download

from mergekit_geo.checkpoints.adapter.files import (
    ADAPTER_WEIGHTS,
    AdapterFolder,
    refuse_unreadable_adapter,
)
from mergekit_geo.checkpoints.adapter.settings import ADAPTER_CONFIG, read_settings
from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.hub import Listing, hub_errors, read_remote_header, require_files
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.checkpoints.side_files import not_here, wanted_on_hub
from mergekit_geo.checkpoints.stated_hash import require_stated_hashes


class AdapterOnHub:
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

    is_local = False

    def __init__(self, name: str, repo: str, revision: str | None, listing: Listing) -> None:
        self.name, self.repo, self.hashes = name, repo, listing.hashes
        refuse_unreadable_adapter(name, listing.files)
        with hub_errors(name, repo, revision):
            # As for a whole model: asked by the user's revision, for the cache to remember.
            patterns = [ADAPTER_CONFIG, *wanted_on_hub(listing.files)]
            self.folder = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
            self.revision: str | None = self.folder.name
            if more := not_here(self.folder, listing.files):
                snapshot_download(repo, revision=self.revision, allow_patterns=more)
            require_files(self.folder, name, listing.hashes)
            self.settings = read_settings(self.folder / ADAPTER_CONFIG, name)
            self.tensors: Mapping[str, TensorInfo] = read_remote_header(
                repo, ADAPTER_WEIGHTS, self.revision, name
            )

    def read(self, name: str, start: int, stop: int, out: Bytes) -> NoReturn:
        """Not available: weights can be read only after `fetch`."""
        raise AssertionError("fetch() the adapter before reading it")

    def fingerprint(self) -> object:
        """Repository and commit."""
        return [self.repo, self.revision]

    def fetch(self) -> AdapterFolder:
        """Download the weights.

        Raises:
            HubError: The download failed.
        """
        with hub_errors(self.name, self.repo, self.revision):
            folder = snapshot_download(
                self.repo, revision=self.revision, allow_patterns=[ADAPTER_WEIGHTS]
            )
        require_stated_hashes(Path(folder), [ADAPTER_WEIGHTS], self.name, self.hashes)
        return AdapterFolder(Path(folder), self.name, self.revision)
