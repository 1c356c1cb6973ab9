"""Answers that are none of the Hub's: a login page of a network, or an error page of a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants

from mergekit_geo.errors import HubError

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
