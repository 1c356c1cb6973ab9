"""What can go wrong between a checkpoint and the Hub, each in one clear line.

Answers can be none of the Hub's: a login page of a network, or an error page of a proxy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
NOT_AN_ANSWER = (
    f"{{hub}} answered with {WEB_PAGE}, or with something else that is no answer of a Hub, instead "
    "of {wanted}"
)
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
    message = NOT_AN_ANSWER.format(hub=constants.ENDPOINT, wanted=wanted)
    return HubError(message, where=name, remedy=BEHIND_PROXY)


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
        told = _translated(error, name, repo, revision)
        if told is None:
            raise
        raise told from raised


@dataclass(frozen=True)
class _Said:
    """What is said of an error; names in braces are filled in."""

    kind: type[GeoError]
    message: str
    remedy: str = ""


_NO_REPOSITORY = _Said(
    NotFoundError, "no folder {folder}, and no repository {repo} at {hub}",
    "check the spelling; a private repository needs `hf auth login`",
)  # fmt: skip
_NO_ANSWER = _Said(
    HubError, "no folder {folder}, and {hub} could not be asked for {repo}: {reason}",
    "check the network; HF_HUB_OFFLINE=1 uses what is in the cache",
)  # fmt: skip
_REFUSED = _Said(
    HubError, "{hub} refused: {reason}",
    "log in with `hf auth login`, or set HF_TOKEN to a token that may read it",
)  # fmt: skip
_SAID: tuple[tuple[type[Exception] | tuple[type[Exception], ...], _Said], ...] = (
    (GatedRepoError, _Said(
        HubError, "access to this repository is restricted",
        "accept its terms at {hub}/{repo} and log in with `hf auth login`",
    )),
    (RepositoryNotFoundError, _NO_REPOSITORY),
    (RevisionNotFoundError, _Said(NotFoundError, "{repo} has no revision {revision!r}")),
    ((FileMetadataError, JSONDecodeError), _Said(HubError, NOT_AN_ANSWER, BEHIND_PROXY)),
    ((LocalEntryNotFoundError, OfflineModeIsEnabled), _Said(
        HubError, "no folder {folder}, and {repo} is not in the cache",
        "offline mode is on or there is no network: unset HF_HUB_OFFLINE or connect",
    )),
    (HfHubHTTPError, _REFUSED),
    (NETWORK_ERRORS, _NO_ANSWER),
    (HFValidationError, _NO_REPOSITORY),
    (SafetensorsParsingError, _Said(FormatError, "not a sound safetensors file: {error}")),
    (OSError, _Said(
        HubError, "{repo} could not be stored in {cache}: {error}",
        "make room there, or set HF_HOME to another folder",
    )),
)  # fmt: skip
"""By kind, the first that fits."""


def _translated(error: Exception, name: str, repo: str, revision: str | None) -> GeoError | None:
    """Our error of one of the hub client's; None where it is none of those that are known."""
    said = next((said for kind, said in _SAID if isinstance(error, kind)), None)
    if said is None:
        return None
    if isinstance(error, HfHubHTTPError) and said is _REFUSED:
        said = _REFUSED if error.response.status_code in REFUSALS else _NO_ANSWER
    words = {
        "repo": repo, "revision": revision, "error": error, "reason": reason(error),
        "folder": Path(name).absolute(), "hub": constants.ENDPOINT,
        "cache": constants.HF_HUB_CACHE, "wanted": f"the files of {repo}",
    }  # fmt: skip
    return said.kind(said.message.format(**words), where=name, remedy=said.remedy.format(**words))
