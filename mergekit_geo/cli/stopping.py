"""Ctrl-C and SIGTERM: one line and exit 130 or 143, from the first moment to the last.

Every output appears by one rename, so a process may leave at any moment without harm. While a
command works it is asked to leave: `Stopped` is raised, temporary files go, and the terminal is
left as it was. Before and after, and where that takes too long, the process leaves at once.
Work inside `interrupt.finishing` is not stopped by the first signal, and has what time it needs.

The module behind `signal` is imported: `signal` itself takes 5 ms, and Ctrl-C in them would print
a traceback. So would it while other modules are imported here, so some are where they are needed.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import os
import sys
from select import select
from time import sleep

from mergekit_geo import interrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from types import FrameType

    from mergekit_geo.interrupt import Interruption

WORDS: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
GRACE = 4.0
"""Seconds until a process that was asked to stop is killed."""
INSTANT = 0.2
"""Seconds until a process that is to leave at once, and would do so by itself, is killed."""
LAUNCHER = "MERGEKIT_GEO_LAUNCHER"
"""Process that started this one as one of several; they stop with it, and it does the talking."""
SHOW_CURSOR = "\x1b[?25h"


class Stopped(BaseException):
    """Raised by a signal that asks the command to stop.

    Not a KeyboardInterrupt, which libraries take for one of their own.
    """


class _State:
    """State of this process's stopping.

    Attributes:
        caught: The first signal; 0 if there was none.
        asked: The work that it asked to end early; None where it stopped the command.
        works: Whether a command works, which is to be asked.
        told: Whether the line was written.
        remark: What stands in it.
        code: Exit code.
    """

    caught = 0
    asked: Interruption | None = None
    works = False
    told = False
    remark = "nothing was started"
    code = 1


_state = _State()


def heed() -> None:
    """Take signals over; one that is ignored, as in the background of a shell, stays ignored."""
    for number in WORDS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


def watch() -> None:
    """Start a thread that ends the process after a signal, even if `Stopped` was swallowed.

    Not on Windows, where no signal can be waited for by a thread.
    """
    import atexit

    sys.unraisablehook = _unraisable
    atexit.register(_leave)  # registered first, run last: the interpreter's own end can be stopped
    if sys.platform == "win32" or not hasattr(os, "register_at_fork"):
        return
    import threading

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_forget)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()


def working(again: str) -> AbstractContextManager[None]:
    """Context in which a command works, and a signal is raised as `Stopped`.

    Args:
        again: What to do after a signal.

    Raises:
        Stopped: There was one.
    """
    from contextlib import contextmanager

    @contextmanager
    def work() -> Iterator[None]:
        _state.remark, _state.told = f"nothing is half-written; {again}", False
        _state.works = True
        try:
            yield
            finished()
        finally:
            _state.works = False
            if not _state.caught:
                finished()

    return work()


def finished() -> None:
    """Note that the work is done, for the line that a signal prints from now on."""
    early = _state.asked.remark if _state.asked else ""
    _state.remark = early or "the work had finished"


def is_stopped() -> bool:
    """Whether a signal stopped the command; false where work was only asked to end early."""
    return bool(_state.caught) and not is_early()


def is_early() -> bool:
    """Whether a signal asked work to end early, and none came after it."""
    return _state.asked is not None


def code() -> int:
    """Exit code after a signal, or after Ctrl-C in a program that does not heed signals."""
    return 128 + (_state.caught or signal.SIGINT)


def line(remark: str = "") -> str:
    """The line to print after a signal; empty the second time, or if another process prints it.

    Args:
        remark: In place of what is known.
    """
    told, _state.told = _state.told, True
    if told or LAUNCHER in os.environ or os.environ.get("RANK", "0") != "0":
        return ""
    word = WORDS[_state.caught or signal.SIGINT]
    return f"{word}: {remark or _state.remark}\n"


def end(exit_code: int) -> None:
    """End the interpreter in its usual order, which leaves at once where a signal comes."""
    _state.code = exit_code
    sys.exit(exit_code)


def _handle(number: int, frame: FrameType | None) -> None:
    is_first, _state.caught = not _state.caught, _state.caught or number
    if is_first:
        _state.asked = interrupt.ask(number)
        if _state.asked:
            return
        if _state.works:
            raise Stopped
    _leave_now()


def _leave_now() -> None:
    """Print the line, and exit at once."""
    cursor = SHOW_CURSOR if os.isatty(2) else ""
    try:  # not by streams, which may be in the middle of something
        os.write(2, f"{cursor}{line()}".encode())
    finally:
        os._exit(code())


def _leave() -> None:
    """Flush the streams, and exit at once with the noted code."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(_state.code)


def _watch(reader: int) -> None:
    """Wait for a signal, or for the end of the process that started this one."""
    launcher = int(os.environ.get(LAUNCHER, "0"))
    number = _next(reader, launcher)
    if interrupt.is_finishing() or is_early():  # it may have ended since
        _next(reader, launcher)
    else:
        select([reader], [], [], GRACE)  # unless another one comes
    sleep(INSTANT)
    _state.caught = _state.caught or number
    _leave_now()


def _next(reader: int, launcher: int) -> int:
    """The next signal."""
    while not select([reader], [], [], 0.5 if launcher else None)[0]:
        if os.getppid() != launcher:
            _state.caught = signal.SIGTERM
            _leave_now()
    return os.read(reader, 1)[0]


def _unraisable(told: sys.UnraisableHookArgs) -> None:
    """Print nothing for a `Stopped` inside a finalizer: the watching thread ends the process."""
    if not isinstance(told.exc_value, Stopped):
        sys.__unraisablehook__(told)


def _forget() -> None:
    """Detach a forked child from its parent's pipe."""
    signal.set_wakeup_fd(-1)
    for number in WORDS:
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.SIG_DFL)
