"""Checkpoints on the Hugging Face Hub: headers first, data only once the models fit together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from mergekit_geo.checkpoints.checkpoint import (
    Checkpoint,
    FolderCheckpoint,
    read_config,
    refuse_quantised,
    refuse_unreadable,
)
from mergekit_geo.checkpoints.companions import PATTERNS
from mergekit_geo.checkpoints.header import TensorInfo, tensor_info
from mergekit_geo.checkpoints.index import INDEX
from mergekit_geo.errors import GeoError, HubError, NotFoundError

if TYPE_CHECKING:
    from torch import Tensor


class HubCheckpoint:
    """A checkpoint on the Hub whose headers have been read and whose weights have not.

    Args:
        name: What the user calls it.
        repo: `org/name`.
        sha: The commit; a branch could move between two looks at it.

    Raises:
        CheckpointError: It cannot be used.
    """

    is_here = False

    def __init__(self, name: str, repo: str, sha: str) -> None:
        self.name, self.repo = name, repo
        self.revision: str | None = sha
        folder = Path(snapshot_download(repo, revision=sha, allow_patterns=list(PATTERNS)))
        self.folder: Path | None = folder
        self.config = read_config(folder)
        refuse_quantised(name, self.config)
        headers = HfApi().get_safetensors_metadata(repo, revision=sha).files_metadata
        self.files = sorted(headers)
        self.tensors: Mapping[str, TensorInfo] = {
            tensor: tensor_info(tensor, raw.dtype, raw.shape, name)
            for file in self.files
            for tensor, raw in headers[file].tensors.items()
        }

    def read(self, name: str, start: int, stop: int, out: Tensor) -> NoReturn:
        """Nothing can be read before `fetch`."""
        raise AssertionError("fetch() the checkpoint before reading it")

    def identity(self) -> object:
        """The commit tells."""
        return [self.repo, self.revision]

    def fetch(self) -> FolderCheckpoint:
        """Download the weights, and only the files that hold them.

        Raises:
            HubError: The download failed; what has arrived is kept for the next try.
        """
        with _translated(self.name, self.repo, self.revision):
            folder = snapshot_download(
                self.repo, revision=self.revision, allow_patterns=[*self.files, INDEX]
            )
        return FolderCheckpoint(Path(folder), self.name, self.revision)


def open_on_hub(name: str, repo: str, revision: str | None) -> Checkpoint:
    """Look at a checkpoint on the Hub: configuration, tokenizer and headers.

    Offline mode (`HF_HUB_OFFLINE=1`) takes the snapshot in the cache.

    Raises:
        NotFoundError: No such repository or revision.
        HubError: Gated, offline and not in the cache, or no network.
        CheckpointError: It cannot be used.
    """
    with _translated(name, repo, revision):
        if constants.HF_HUB_OFFLINE:
            folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
            return FolderCheckpoint(folder, name, folder.name)
        info = HfApi().model_info(repo, revision=revision)
        refuse_unreadable(name, {sibling.rfilename for sibling in info.siblings or ()})
        return HubCheckpoint(name, repo, str(info.sha))


@contextmanager
def _translated(name: str, repo: str, revision: str | None) -> Iterator[None]:
    try:
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


def _no_answer(name: str, repo: str, _: str | None, error: Exception) -> GeoError:
    reason = str(error).split("\n", maxsplit=1)[0] or type(error).__name__
    return HubError(
        f"no folder {Path(name).absolute()}, and {constants.ENDPOINT} could not be asked "
        f"for {repo}: {reason}",
        where=name,
        remedy="check the network; HF_HUB_OFFLINE=1 uses what is in the cache",
    )


def _network_errors() -> tuple[type[Exception], ...]:
    try:
        import httpx2 as httpx  # huggingface-hub 2
    except ImportError:
        import httpx  # type: ignore[no-redef,import-not-found,unused-ignore] # huggingface-hub 1
    return (httpx.HTTPError, ConnectionError, TimeoutError)


_Translate = Callable[[str, str, str | None, Exception], GeoError]

_TRANSLATIONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], _Translate], ...] = (
    (GatedRepoError, _gated),
    (RepositoryNotFoundError, _no_repository),
    (RevisionNotFoundError, _no_revision),
    ((LocalEntryNotFoundError, OfflineModeIsEnabled), _not_cached),
    ((HfHubHTTPError, *_network_errors()), _no_answer),
    (HFValidationError, _no_repository),
)
