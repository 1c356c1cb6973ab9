"""Checkpoints and adapters on the Hugging Face Hub: headers first, data once they fit together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from mergekit_geo.checkpoints.adapter.files import (
    ADAPTER_WEIGHTS,
    Adapter,
    is_adapter,
    open_adapter,
    refuse_unreadable_adapter,
)
from mergekit_geo.checkpoints.adapter.settings import ADAPTER_CONFIG, read_settings
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.components import PIPELINE, read_folders, weighted_components
from mergekit_geo.checkpoints.configuration import refuse_oversized
from mergekit_geo.checkpoints.folder import open_folder, read_config
from mergekit_geo.checkpoints.header import TensorInfo, tensor_info
from mergekit_geo.checkpoints.headless import without_head
from mergekit_geo.checkpoints.hub_errors import (
    BEHIND_PROXY,
    WEB_PAGE,
    answers,
    hub_errors,
    is_web_page,
)
from mergekit_geo.checkpoints.index import INDEXES, weight_files
from mergekit_geo.checkpoints.module_folders import MODULES, at, backbone_of, files_in
from mergekit_geo.checkpoints.pipeline import joined
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.checkpoints.side_files import PATTERNS, not_here, side_files_of, wanted_on_hub
from mergekit_geo.checkpoints.stated_hash import require_stated_hashes
from mergekit_geo.checkpoints.stated_license import license_of
from mergekit_geo.checkpoints.unreadable import (
    quantised_errors,
    refuse_pickled_component,
    refuse_quantised,
    refuse_unreadable,
)
from mergekit_geo.checkpoints.wrappers import note, refuse_factors, unwrapped
from mergekit_geo.errors import HubError
from mergekit_geo.files.hub_id import HubId, inside, no_subfolder
from mergekit_geo.records.model import License


def _open(name: str, place: HubId, listing: Listing) -> Checkpoint:
    names = listing.files
    if PIPELINE in names:
        return _open_pipeline(name, place, listing)
    below = _backbone(place, names)
    refuse_unreadable(inside(name, below), files_in(names, below))
    root, commit = download_beside(place, wanted_on_hub(names), names)
    require_files(root, name, listing.hashes)
    folder, weights = root / below, replace(commit, subfolder=commit.file(below).rstrip("/"))
    config = read_config(folder)
    files = weight_files(files_in(names, below), folder, name)
    with quantised_errors(name, config), ThreadPoolExecutor(8) as pool:
        headers = list(pool.map(lambda file: read_remote_header(weights, file, name), files))
    stored = {tensor: info for header in headers for tensor, info in header.items()}
    refuse_quantised(name, config, stored)
    refuse_factors(stored, name)
    refuse_oversized(config, len(stored), name)
    config = without_head(config, folder, stored)
    tensors = unwrapped(stored, config, name)
    return Checkpoint(
        name=name,
        tensors=tensors,
        read=not_local,
        fingerprint=lambda: str(commit),
        config=config,
        folder=folder,
        revision=commit.revision,
        is_local=False,
        fetched=partial(_fetched, commit, listing.hashes),
        files=tuple(files),
        listed=frozenset(names),
        license=listing.license,
        renamed=note(stored, tensors, name),
        inside=below,
    )


def _open_pipeline(name: str, place: HubId, listing: Listing) -> Checkpoint:
    root, commit = download_beside(place, wanted_on_hub(listing.files), listing.files)
    require_files(root, name, listing.hashes)
    parts = {}
    for component in weighted_components(root, listing.files, where=name):
        refuse_pickled_component(component, name)
        below = component.path
        at_commit = replace(commit, subfolder=commit.file(below))
        parts[below] = _open(inside(name, below), at_commit, listing.within(below))
    return joined(
        name,
        root,
        parts,
        revision=commit.revision,
        listed=frozenset(listing.files),
        stated=listing.license,
    )


def _backbone(place: HubId, names: set[str]) -> str:
    """The folder that holds the model itself, as `modules.json` tells; empty for its own."""
    if MODULES not in names:
        return ""
    folder, _ = download_beside(place, wanted_on_hub(names), names)
    return backbone_of(folder, names)


def _fetched(place: HubId, hashes: Mapping[str, str], checkpoint: Checkpoint) -> Checkpoint:
    """Download the weights, and only the files that hold them; whole ones are kept if it fails."""
    name, below = checkpoint.name, checkpoint.inside
    files = [at(below, file) for file in checkpoint.files]
    with hub_errors(name, place.repo, place.revision):
        folder, _ = download(place, [*files, *(at(below, index) for index in INDEXES)])
    require_stated_hashes(folder, files, name, hashes)
    return open_folder(folder, name, place.revision, checkpoint.license, checkpoint.listed)


def download_beside(place: HubId, wanted: list[str], names: Collection[str]) -> tuple[Path, HubId]:
    """The folder with the files beside the weights, and its place at the commit.

    Asked by the user's revision, so that the cache remembers what it meant: offline mode needs
    that. From here on only the commit counts; a branch could move meanwhile.

    Args:
        place: As the user named it.
        wanted: Patterns of files.
        names: All files that are there.
    """
    folder, commit = download(place, wanted)
    while more := not_here(folder, names):
        download(commit, more)
    return folder, commit


def download(place: HubId, patterns: Iterable[str], *, local: bool = False) -> tuple[Path, HubId]:
    """Files of a place, by patterns: the folder that holds them, and the place at its commit.

    Args:
        place: As the user named it, or at a commit.
        patterns: Of files.
        local: Whether only the cache is asked.
    """
    wanted = [place.file(pattern) for pattern in patterns]
    snapshot = Path(
        snapshot_download(
            place.repo,
            revision=place.revision,
            allow_patterns=wanted,
            local_files_only=local,
        )
    )
    return snapshot / place.subfolder, place.at(snapshot.name)


def not_local(name: str, start: int, stop: int, out: Bytes) -> NoReturn:
    """Not available: weights on the Hub can be read only after `fetch`."""
    raise AssertionError("fetch() the checkpoint before reading it")


def read_remote_header(place: HubId, file: str, where: str) -> dict[str, TensorInfo]:
    """Every tensor of a safetensors file on the Hub, from its first bytes.

    Raises:
        FormatError: A dtype is none that can be merged.
    """
    found = HfApi().parse_safetensors_file_metadata(
        place.repo, place.file(file), revision=place.revision
    )
    return {
        tensor: tensor_info(tensor, raw.dtype, raw.shape, where)
        for tensor, raw in found.tensors.items()
    }


@dataclass(frozen=True)
class Listing:
    """Files and metadata of a repository, or of a folder in it.

    Attributes:
        files: All that it holds, relative to it.
        license: Of its card; None where it states none.
        hashes: SHA-256 of its large files.
    """

    files: set[str]
    license: License | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)

    def within(self, below: str) -> Listing:
        """The same of a folder in it."""
        begin = at(below, "")
        hashes = {f.removeprefix(begin): h for f, h in self.hashes.items() if f.startswith(begin)}
        return Listing(files_in(self.files, below), self.license, hashes)


def list_on_hub(name: str, place: HubId) -> Listing:
    """The files of a repository or of a folder in it, and the repository's license.

    Raises:
        NotFoundError: No such repository, revision or folder.
        HubError: Gated, or no network.
    """
    repo, revision = place.repo, place.revision
    with hub_errors(name, repo, revision):
        with answers(name, f"the files of {repo}"):
            info = HfApi().model_info(repo, revision=revision, files_metadata=True)
        siblings = info.siblings or ()
        files = {sibling.rfilename for sibling in siblings}
        hashes = {s.rfilename: s.lfs.sha256 for s in siblings if s.lfs is not None}
        stated = license_of(vars(info.card_data)) if info.card_data else None
        page = f"{constants.ENDPOINT}/{repo}/blob/{info.sha}"
        whole = Listing(files, stated and stated.linked_from(page), hashes)
        found = whole.within(place.subfolder)
        if not found.files:
            raise no_subfolder(repo, place.subfolder, {f.split("/")[0] for f in files if "/" in f})
        return found


def require_files(folder: Path, name: str, hashes: Mapping[str, str] | None = None) -> None:
    """Check downloaded files before anything reads them.

    Raises:
        HubError: A page of a proxy in place of a file, or other content than the Hub states.
    """
    paths = [path for path in sorted(folder.glob("*.json")) if path.is_file()]
    if found := next((path for path in paths if is_web_page(path)), None):
        raise HubError(
            f"{constants.ENDPOINT} answered with {WEB_PAGE} instead of {found.name}",
            where=name,
            remedy=f"{BEHIND_PROXY}; then delete {found.resolve()} and {found}, and run again",
        )
    modules = [file for module in read_folders(folder) for file in module.files]
    beside = {path.as_posix() for path in (*side_files_of(folder), *modules)}
    require_stated_hashes(folder, beside, name, hashes)


def open_on_hub(name: str, place: HubId) -> Checkpoint | Adapter:
    """Open a checkpoint on the Hub, or an adapter: configuration, tokenizer and headers.

    Args:
        name: What the user calls it.
        place: Where it is.

    Raises:
        NotFoundError: No such repository, revision or folder.
        HubError: Gated, or no network.
        CheckpointError: It cannot be used.
    """
    listing = list_on_hub(name, place)
    if is_adapter(listing.files, name):
        return _adapter(name, place, listing)
    with hub_errors(name, place.repo, place.revision):
        return _open(name, place, listing)


def cached_folder(name: str, place: HubId) -> tuple[Path, HubId] | None:
    """A folder in the cache in offline mode (`HF_HUB_OFFLINE=1`), and its place at the commit.

    None when the Hub is asked.

    Raises:
        HubError: It is not in the cache.
    """
    if not constants.HF_HUB_OFFLINE:
        return None
    with hub_errors(name, place.repo, place.revision):
        # Without patterns, huggingface-hub 2 calls a snapshot incomplete that lacks any file of
        # the repository, such as its README; what opens the folder looks for the weights itself.
        folder, commit = download(place, PATTERNS, local=True)
        places = [one.path for one in weighted_components(folder)] or [backbone_of(folder)]
        if not all(any((folder / place).glob("*.safetensors")) for place in places):
            raise LocalEntryNotFoundError(f"the weights of {place} are not in the cache")
        require_files(folder, name)
        return folder, commit


def _adapter(name: str, place: HubId, listing: Listing) -> Adapter:
    """An adapter whose header has been read and whose weights have not."""
    refuse_unreadable_adapter(name, listing.files)
    with hub_errors(name, place.repo, place.revision):
        patterns = [ADAPTER_CONFIG, *wanted_on_hub(listing.files)]
        folder, commit = download_beside(place, patterns, listing.files)
        require_files(folder, name, listing.hashes)
        return Adapter(
            name=name,
            folder=folder,
            settings=read_settings(folder / ADAPTER_CONFIG, name),
            tensors=read_remote_header(commit, ADAPTER_WEIGHTS, name),
            read=not_local,
            fingerprint=lambda: str(commit),
            revision=commit.revision,
            is_local=False,
            fetched=partial(_fetched_adapter, commit, listing.hashes),
        )


def _fetched_adapter(place: HubId, hashes: Mapping[str, str], adapter: Adapter) -> Adapter:
    """Download the weights."""
    with hub_errors(adapter.name, place.repo, place.revision):
        folder, _ = download(place, [ADAPTER_WEIGHTS])
    require_stated_hashes(folder, [ADAPTER_WEIGHTS], adapter.name, hashes)
    return open_adapter(folder, adapter.name, adapter.revision)
