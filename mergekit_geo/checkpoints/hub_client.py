"""How the hub client talks: through our progress, and without addresses that are secrets."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import constants, utils

from mergekit_geo.progress import DOWNLOAD_BARS, Progress

try:
    import httpx2 as httpx  # huggingface-hub 2
except ImportError:
    import httpx  # type: ignore[no-redef,import-not-found,unused-ignore] # huggingface-hub 1

NETWORK_ERRORS = (httpx.HTTPError, ConnectionError, TimeoutError)
"""Exceptions of the client when nothing answers, or a connection breaks."""

QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")
"""Addresses with a query, which can hold a signature."""

MESSAGE = re.compile("<Message>([^<]+)</Message>")
LOGGER = "huggingface_hub"


@contextmanager
def client_told(progress: Progress) -> Iterator[None]:
    """Send the hub client's messages to `progress`."""
    logger, retold = logging.getLogger(LOGGER), _Retold(progress)
    before, logger.handlers = logger.handlers, [retold]
    try:
        with bars_hidden():
            yield
    finally:
        logger.handlers = before


@contextmanager
def bars_hidden(library: Any = None) -> Iterator[None]:
    """Hide a library's progress bars, except on a terminal or by HF_HUB_DISABLE_PROGRESS_BARS=0.

    Args:
        library: `datasets`, or the hub client if None.
    """
    found = library or utils
    asked = DOWNLOAD_BARS.is_set() or constants.HF_HUB_DISABLE_PROGRESS_BARS is False
    hide = not asked and not found.are_progress_bars_disabled()
    if hide:
        found.disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            found.enable_progress_bars()


def reason(error: BaseException) -> str:
    r"""An error of the client in one line.

    Example:
        >>> reason(OSError("broken: https://store/x?Signature=secret\nmore"))
        'broken: https://store/x'
    """
    said = str(getattr(error, "server_message", None) or "").strip()
    if said.startswith("<"):  # a store answers in XML, which may hold the signed text too
        said = next(iter(MESSAGE.findall(said)), "")
    text = (said or str(error)).strip().split("\n", maxsplit=1)[0]
    return without_query(text) or type(error).__name__


def without_query(text: str) -> str:
    """Remove the queries of addresses, which can hold signatures."""
    return QUERY.sub(r"\1", text)


class _Retold(logging.Handler):
    """Passes warnings to a progress."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self.progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self.progress.say(without_query(record.getMessage()))
