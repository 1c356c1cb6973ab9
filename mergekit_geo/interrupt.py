"""Ctrl-C and SIGTERM for work that has a result at any time: it ends early, and the result is kept.

`geo-merge` and Python share this; what a signal does outside `finishing` is not decided here. The
command line imports this file before it can be interrupted: it imports nothing slow.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from types import FrameType


class Interruption:
    """Whether work was asked to end early.

    Args:
        remark: What a command says of its result where it was.

    Attributes:
        number: The signal that asked; 0 while there was none.
    """

    def __init__(self, remark: str = "") -> None:
        self.remark, self.number = remark, 0

    @property
    def set(self) -> bool:
        """Whether a signal has come."""
        return self.number != 0


_open: list[Interruption] = []


def finishing(remark: str = "") -> AbstractContextManager[Interruption]:
    """Context in which a first Ctrl-C or SIGTERM asks work to end, and a second one ends it.

    Without the command line it is a first Ctrl-C alone that asks, in the main thread and where
    the program has no handler of its own; a second one raises KeyboardInterrupt.

    Args:
        remark: What `geo-merge` says when it has ended early, after "interrupted: ".

    Returns:
        A context that gives what `set` tells of.

    Example:
        >>> done = 0
        >>> with finishing() as asked:
        ...     while done < 3 and not asked.set:
        ...         done += 1
        >>> done
        3
    """
    from contextlib import contextmanager

    @contextmanager
    def until_asked() -> Iterator[Interruption]:
        asked = Interruption(remark)
        _open.append(asked)
        is_ours = _take_over()
        try:
            yield asked
        finally:
            if is_ours:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            _open.remove(asked)

    return until_asked()


def ask(number: int) -> Interruption | None:
    """Ask work to end, in a handler of signals; None where none is left to ask.

    Args:
        number: The signal.
    """
    unasked = [asked for asked in _open if not asked.set]
    for asked in unasked:
        asked.number = number
    return unasked[-1] if unasked else None


def is_finishing() -> bool:
    """Whether there is work that ends by itself where it is asked."""
    return bool(_open)


def _take_over() -> bool:
    """Handle Ctrl-C in the place of Python; false where somebody else does."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return False
    try:
        signal.signal(signal.SIGINT, _handle)
    except ValueError:  # only the main thread may
        return False
    return True


def _handle(number: int, frame: FrameType | None) -> None:
    if ask(number) is None:
        signal.default_int_handler(number, frame)
