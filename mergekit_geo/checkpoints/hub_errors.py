"""What can go wrong between a checkpoint and the Hub, each in one clear line.

Answers can be none of the Hub's: a login page of a network, or an error page of a proxy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    SafetensorsParsingError,
)

from mergekit_geo.checkpoints.hub_client import NETWORK_ERRORS, bars_hidden, reason
from mergekit_geo.errors import FormatError, GeoError, HubError, NotFoundError

REFUSALS = (401, 403)
"""HTTP status of a token that is invalid, or lacks permission."""

WEB_PAGE = "a web page"
BEHIND_PROXY = "a login page or a proxy stands between: open the address in a browser, and log in"


@contextmanager
def answers(name: str, wanted: str) -> Iterator[None]:
    """Context of one call of the hub client: turns answers that are not JSON into an error.

    Args:
        name: What the user calls the model.
        wanted: What was asked for.

    Raises:
        HubError: The answer is not JSON, or not of that form.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise not_an_answer(name, wanted) from error


def not_an_answer(name: str, wanted: str) -> HubError:
    """The error of an answer that is not the Hub's."""
    return HubError(
        f"{constants.ENDPOINT} answered with {WEB_PAGE}, or with something else that is no answer "
        f"of a Hub, instead of {wanted}",
        where=name,
        remedy=BEHIND_PROXY,
    )


def is_web_page(path: Path) -> bool:
    """Whether what should be JSON or binary begins as HTML does."""
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"<")


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
    except Exception as raised:
        within = raised.__cause__  # the client tells of an answer without headers as of none
        error = within if isinstance(within, FileMetadataError) else raised
        for kind, translate in _TRANSLATIONS:
            if isinstance(error, kind):
                raise translate(name, repo, revision, error) from raised
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


def _not_json(name: str, repo: str, _: str | None, __: Exception) -> GeoError:
    return not_an_answer(name, f"the files of {repo}")


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


_HubTranslate = Callable[[str, str, str | None, Exception], GeoError]

_TRANSLATIONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], _HubTranslate], ...] = (
    (GatedRepoError, _gated),
    (RepositoryNotFoundError, _no_repository),
    (RevisionNotFoundError, _no_revision),
    (FileMetadataError, _not_json),
    (JSONDecodeError, _not_json),
    ((LocalEntryNotFoundError, OfflineModeIsEnabled), _not_cached),
    (HfHubHTTPError, _refused),
    (NETWORK_ERRORS, _no_answer),
    (HFValidationError, _no_repository),
    (SafetensorsParsingError, _unsound),
    (OSError, _no_cache),
)
