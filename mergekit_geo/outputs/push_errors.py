"""What can go wrong between an output and the Hub, each in one clear line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from mergekit_geo.checkpoints.hub_client import NETWORK_ERRORS, reason
from mergekit_geo.checkpoints.hub_errors import not_an_answer
from mergekit_geo.config.output import Destination
from mergekit_geo.errors import GeoError, PushError

CONNECT = "check the network"
NO_XET = "xet-write-token"
UNAUTHORIZED, FORBIDDEN = 401, 403
LOG_IN = "`hf auth login` with a token that may write, or set HF_TOKEN"


@contextmanager
def push_errors(to: Destination, folder: Path | None = None) -> Iterator[None]:
    """Turn what the hub client raises into our errors.

    Args:
        to: Where the output goes.
        folder: The output; None before it is made.

    Raises:
        PushError: With the reason and the remedy.
    """
    try:
        yield
    except GeoError:
        raise
    except Exception as error:
        known = _translated(error, to)
        if known is None:
            raise
        again = [] if folder is None else [f"then: {to.command(folder)}"]
        remedy = "; ".join([known.remedy, *again])
        raise PushError(known.message, where=to.repo, remedy=remedy) from error


def _translated(error: Exception, to: Destination) -> PushError | None:
    for kind, translate in _TRANSLATIONS:
        if isinstance(error, kind):
            return translate(to, error)
    return None


def _offline(_: Destination, __: Exception) -> PushError:
    return PushError("offline mode is on", remedy="unset HF_HUB_OFFLINE")


def _no_token(_: Destination, __: Exception) -> PushError:
    return PushError(f"no token for {constants.ENDPOINT}", remedy=LOG_IN)


def _gated(to: Destination, _: Exception) -> PushError:
    return PushError(
        "access to this repository is restricted",
        remedy=f"accept its terms at {constants.ENDPOINT}/{to.repo}",
    )


def _no_revision(to: Destination, _: Exception) -> PushError:
    return PushError(f"it has no revision {to.revision!r}", remedy="check the spelling")


def _no_repository(to: Destination, _: Exception) -> PushError:
    return PushError(
        f"no repository {to.repo} at {constants.ENDPOINT}, or none that this token may see",
        remedy="check the spelling and the token",
    )


def _refused(to: Destination, error: Exception) -> PushError:
    assert isinstance(error, HfHubHTTPError)
    status = error.response.status_code
    said = f": {reason(error)}" if error.server_message else ""
    if status == UNAUTHORIZED:
        return PushError(f"the token was refused{said}", remedy=LOG_IN)
    if status == FORBIDDEN:
        return PushError(
            f"forbidden{said}",
            remedy="use a token that may write there, or --create-pr where it may only read",
        )
    return PushError(f"{constants.ENDPOINT} answered {status}{said}", remedy="try again later")


def _lost(_: Destination, error: Exception) -> PushError:
    said = reason(error)
    return PushError(
        f"the connection to {constants.ENDPOINT} failed: {said}",
        remedy="a Hub without Xet wants HF_HUB_DISABLE_XET=1" if NO_XET in said else CONNECT,
    )


def _refused_content(_: Destination, error: Exception) -> PushError:
    """The Hub refuses the content, such as a model card, or a quota is used up."""
    text = " ".join(str(error).split())
    return PushError(f"the Hub refuses it: {text}", remedy="correct that, and push again")


def _not_json(to: Destination, _: Exception) -> PushError:
    found = not_an_answer(to.repo, "what was asked for")
    return PushError(found.message, remedy=found.remedy)


def _broken(_: Destination, error: Exception) -> PushError:
    """The client names the file, and keeps to itself what broke; hf_xet says what broke."""
    cause = f": {reason(error.__cause__)}" if error.__cause__ else ""
    return PushError(
        f"the upload broke off: {reason(error).rstrip('.')}{cause}", remedy="check network and disk"
    )


_PushTranslate = Callable[[Destination, Exception], PushError]

_TRANSLATIONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], _PushTranslate], ...] = (
    (OfflineModeIsEnabled, _offline),
    (LocalTokenNotFoundError, _no_token),
    (GatedRepoError, _gated),
    (RevisionNotFoundError, _no_revision),
    (RepositoryNotFoundError, _no_repository),
    (HfHubHTTPError, _refused),
    (NETWORK_ERRORS, _lost),
    (JSONDecodeError, _not_json),
    (ValueError, _refused_content),
    ((OSError, RuntimeError), _broken),
)
