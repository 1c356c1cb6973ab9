"""Standard streams that are closed, full or no longer read do not end what a command does."""

from __future__ import annotations

import io
import os
import sys
from errno import EPIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Stream(io.TextIOWrapper):
    """A text stream that notes why it cannot be written, and drops what follows.

    Attributes:
        failure: What went wrong; None if nothing did.
    """

    failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or note the failure and drop the text."""
        try:
            return len(text) if self.failure else super().write(text)
        except OSError as error:
            self.failure = error
            return len(text)

    def flush(self) -> None:
        """Flush, or note the failure."""
        try:
            if not self.failure:
                super().flush()
        except OSError as error:
            self.failure = error


def keep() -> None:
    """Replace closed standard streams, and make all of them note failures instead of raising.

    The first files that a program opens would stand in the place of streams that are closed.
    """
    for number in range(3):
        if not _is_open(number):
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _stream(sys.stdout, 1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(sys.stderr, 2)  # type: ignore[misc]


def settle(code: int) -> int:
    """Flush, and return the exit code: a failure if a result could not be written.

    A reader that has gone, as `head` has, has had what it wanted.
    """
    sys.stdout.flush()
    failure = getattr(sys.stdout, "failure", None)
    if failure is None or failure.errno == EPIPE:
        return code
    sys.stderr.write(f"geo-merge: standard output: {failure.strerror}\n")
    sys.stderr.flush()
    return code or 1


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _stream(known: Any, number: int) -> Any:
    if known is None:
        known = open(number, "w", closefd=False)  # noqa: SIM115
    return Stream(
        known.detach(),
        encoding=known.encoding,
        errors=known.errors,
        line_buffering=known.line_buffering,
        write_through=known.write_through,
    )
