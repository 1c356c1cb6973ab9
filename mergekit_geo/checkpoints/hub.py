"""Checkpoints on the Hugging Face Hub: headers first, data only once the models fit together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    SafetensorsParsingError,
)

from mergekit_geo.checkpoints.checkpoint import (
    FolderCheckpoint,
    read_config,
    refuse_quantised,
    refuse_unreadable,
)
from mergekit_geo.checkpoints.companions import PATTERNS, not_here, wanted_on_hub
from mergekit_geo.checkpoints.configuration import refuse_oversized
from mergekit_geo.checkpoints.header import TensorInfo, tensor_info
from mergekit_geo.checkpoints.hub_client import bars_hidden, network_errors, reason
from mergekit_geo.checkpoints.index import INDEXES, weight_files
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.checkpoints.stated_license import License, license_of
from mergekit_geo.checkpoints.wrappers import note, unwrapped
from mergekit_geo.errors import FormatError, GeoError, HubError, NotFoundError

REFUSALS = (401, 403)
"""Answers to a token that is wrong, or that may not do this."""


class HubCheckpoint:
    """A checkpoint on the Hub whose headers have been read and whose weights have not.

    Args:
        name: What the user calls it.
        repo: `org/name`.
        revision: Branch, tag or commit; None is the main branch.
        names: Every file of the repository.
        stated: The licence of its card.

    Raises:
        CheckpointError: It cannot be used.
    """

    is_here = False
    ties: Mapping[str, str] = {}

    def __init__(
        self,
        name: str,
        repo: str,
        revision: str | None,
        names: set[str],
        stated: License | None = None,
    ) -> None:
        self.name, self.repo, self.license, self.listed = name, repo, stated, frozenset(names)
        # Asked by the user's revision, so that the cache remembers what it meant: offline mode
        # needs that. From here on only the commit counts; a branch could move meanwhile.
        wanted = wanted_on_hub(names)
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=wanted))
        if more := not_here(folder, names):
            snapshot_download(repo, revision=folder.name, allow_patterns=more)
        self.revision: str | None = folder.name
        self.folder: Path | None = folder
        self.config = read_config(folder)
        refuse_quantised(name, self.config)
        self.files = weight_files(names, folder, name)
        with ThreadPoolExecutor(8) as pool:
            headers = list(
                pool.map(
                    lambda file: read_remote_header(repo, file, self.revision, name), self.files
                )
            )
        stored = {tensor: info for header in headers for tensor, info in header.items()}
        refuse_oversized(self.config, len(stored), name)
        self.tensors: Mapping[str, TensorInfo] = unwrapped(stored, self.config, name)
        self.renamed = note(stored, self.tensors, name)

    def read(self, name: str, start: int, stop: int, out: Bytes) -> NoReturn:
        """Nothing can be read before `fetch`."""
        raise AssertionError("fetch() the checkpoint before reading it")

    def identity(self) -> object:
        """The commit tells."""
        return [self.repo, self.revision]

    def fetch(self) -> FolderCheckpoint:
        """Download the weights, and only the files that hold them.

        Raises:
            HubError: The download failed; files that are whole are kept for the next try.
        """
        with hub_errors(self.name, self.repo, self.revision):
            folder = snapshot_download(
                self.repo, revision=self.revision, allow_patterns=[*self.files, *INDEXES]
            )
        return FolderCheckpoint(Path(folder), self.name, self.revision, self.license, self.listed)


def read_remote_header(
    repo: str, file: str, revision: str | None, where: str
) -> dict[str, TensorInfo]:
    """Every tensor of a safetensors file on the Hub, from its first bytes.

    Raises:
        FormatError: A dtype is none that can be merged.
    """
    found = HfApi().parse_safetensors_file_metadata(repo, file, revision=revision)
    return {
        tensor: tensor_info(tensor, raw.dtype, raw.shape, where)
        for tensor, raw in found.tensors.items()
    }


@dataclass(frozen=True)
class Listing:
    """What a repository says of itself.

    Attributes:
        files: All that it holds.
        license: Of its card; None where it states none.
    """

    files: set[str]
    license: License | None


def list_on_hub(name: str, repo: str, revision: str | None) -> Listing:
    """The files of a repository, and its licence.

    Raises:
        NotFoundError: No such repository or revision.
        HubError: Gated, or no network.
    """
    with hub_errors(name, repo, revision):
        info = HfApi().model_info(repo, revision=revision)
        files = {sibling.rfilename for sibling in info.siblings or ()}
        stated = license_of(vars(info.card_data)) if info.card_data else None
        page = f"{constants.ENDPOINT}/{repo}/blob/{info.sha}"
        return Listing(files, stated and stated.linked_from(page))


def open_on_hub(name: str, repo: str, revision: str | None, listing: Listing) -> HubCheckpoint:
    """Look at a checkpoint on the Hub: configuration, tokenizer and headers.

    Raises:
        HubError: Gated, or no network.
        CheckpointError: It cannot be used.
    """
    with hub_errors(name, repo, revision):
        refuse_unreadable(name, listing.files)
        return HubCheckpoint(name, repo, revision, listing.files, listing.license)


def cached_folder(name: str, repo: str, revision: str | None) -> Path | None:
    """The snapshot in the cache in offline mode (`HF_HUB_OFFLINE=1`); None when the Hub is asked.

    Raises:
        HubError: It is not in the cache.
    """
    if not constants.HF_HUB_OFFLINE:
        return None
    with hub_errors(name, repo, revision):
        # Without patterns, huggingface-hub 2 calls a snapshot incomplete that lacks any file of
        # the repository, such as its README; what opens the folder looks for the weights itself.
        found = snapshot_download(
            repo, revision=revision, local_files_only=True, allow_patterns=list(PATTERNS)
        )
        folder = Path(found)
        if not any(folder.glob("*.safetensors")):
            raise LocalEntryNotFoundError(f"the weights of {repo} are not in the cache")
        return folder


@contextmanager
def hub_errors(name: str, repo: str, revision: str | None) -> Iterator[None]:
    """Turn what the hub client says into our errors, and hide its bars.

    Args:
        name: What the user calls the model.
        repo: `org/name`.
        revision: As asked for.

    Raises:
        NotFoundError: No such repository or revision.
        HubError: Gated, offline and not in the cache, or no network.
    """
    try:
        with bars_hidden():
            yield
    except GeoError:
        raise
    except Exception as error:
        for kind, translate in _TRANSLATIONS:
            if isinstance(error, kind):
                raise translate(name, repo, revision, error) from error
        raise


def _gated(name: str, repo: str, _: str | None, __: Exception) -> GeoError:
    return HubError(
        "access to this repository is restricted",
        where=name,
        remedy=f"accept its terms at {constants.ENDPOINT}/{repo} and log in with `hf auth login`",
    )


def _no_repository(name: str, repo: str, _: str | None, __: Exception) -> GeoError:
    return NotFoundError(
        f"no folder {Path(name).absolute()}, and no repository {repo} at {constants.ENDPOINT}",
        where=name,
        remedy="check the spelling; a private repository needs `hf auth login`",
    )


def _no_revision(name: str, repo: str, revision: str | None, _: Exception) -> GeoError:
    return NotFoundError(f"{repo} has no revision {revision!r}", where=name)


def _not_cached(name: str, repo: str, _: str | None, __: Exception) -> GeoError:
    return HubError(
        f"no folder {Path(name).absolute()}, and {repo} is not in the cache",
        where=name,
        remedy="offline mode is on or there is no network: unset HF_HUB_OFFLINE or connect",
    )


def _refused(name: str, repo: str, revision: str | None, error: Exception) -> GeoError:
    assert isinstance(error, HfHubHTTPError)
    if error.response.status_code not in REFUSALS:
        return _no_answer(name, repo, revision, error)
    return HubError(
        f"{constants.ENDPOINT} refused: {reason(error)}",
        where=name,
        remedy="log in with `hf auth login`, or set HF_TOKEN to a token that may read it",
    )


def _no_answer(name: str, repo: str, _: str | None, error: Exception) -> GeoError:
    return HubError(
        f"no folder {Path(name).absolute()}, and {constants.ENDPOINT} could not be asked "
        f"for {repo}: {reason(error)}",
        where=name,
        remedy="check the network; HF_HUB_OFFLINE=1 uses what is in the cache",
    )


def _unsound(name: str, _: str, __: str | None, error: Exception) -> GeoError:
    return FormatError(f"not a sound safetensors file: {error}", where=name)


def _no_cache(name: str, repo: str, _: str | None, error: Exception) -> GeoError:
    return HubError(
        f"{repo} could not be stored in {constants.HF_HUB_CACHE}: {error}",
        where=name,
        remedy="make room there, or set HF_HOME to another folder",
    )


_Translate = Callable[[str, str, str | None, Exception], GeoError]

_TRANSLATIONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], _Translate], ...] = (
    (GatedRepoError, _gated),
    (RepositoryNotFoundError, _no_repository),
    (RevisionNotFoundError, _no_revision),
    ((LocalEntryNotFoundError, OfflineModeIsEnabled), _not_cached),
    (HfHubHTTPError, _refused),
    (network_errors(), _no_answer),
    (HFValidationError, _no_repository),
    (SafetensorsParsingError, _unsound),
    (OSError, _no_cache),
)
