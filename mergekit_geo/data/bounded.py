"""Answers worked out in a forked process, within bounds of time and memory.

Only Unix has what this takes.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, Pipe

import psutil

assert sys.platform != "win32"

SECONDS = 10
"""Most seconds for one answer."""

MEMORY = 1 << 30
"""Memory of the child in bytes, beyond what this process uses."""

SECONDS_OF_ALL, SECONDS_EACH = 30, 0.1
"""Limit of CPU time: seconds for all answers together, plus seconds for each."""


def in_bounds(
    answers: Callable[[], Iterable[dict[str, str]]], count: int
) -> Iterator[dict[str, str]]:
    """Yield what a function yields in a forked process, which ends with this iterator.

    Args:
        answers: Called in the child.
        count: How many answers it yields.

    Yields:
        Each answer; where a bound was met, why, under `problem`, and then nothing more of use.
    """
    reader, writer = Pipe(duplex=False)
    with warnings.catch_warnings():  # other threads hold nothing that the child needs
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _send_all(answers, count, reader, writer)
    writer.close()
    try:
        for _ in range(count):
            yield _received(reader, child)
    finally:
        reader.close()
        _end(child)


def _received(reader: Connection, child: int) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(reader.recv_bytes())
    except EOFError:
        return {"problem": _ended_by(os.WTERMSIG(os.waitpid(child, 0)[1]))}
    return found


def _ended_by(number: int) -> str:
    """Why the child has ended."""
    if number == signal.SIGALRM:
        return f"takes more than {SECONDS} s for one conversation"
    if number == signal.SIGXCPU:
        return "takes too much time for all conversations together"
    if number == signal.SIGSEGV:
        return "is nested too deep"
    return "needs too much memory for one conversation"


def _end(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        return  # it was waited for already


def _send_all(
    answers: Callable[[], Iterable[dict[str, str]]],
    count: int,
    reader: Connection,
    writer: Connection,
) -> None:
    """Answer in the child process; never returns."""
    try:
        reader.close()
        for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGPIPE, signal.SIGXCPU):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends this process
        _limit(resource.RLIMIT_AS, psutil.Process().memory_info().vms + MEMORY)
        _limit(resource.RLIMIT_CPU, SECONDS_OF_ALL + int(SECONDS_EACH * count))
        signal.alarm(SECONDS)
        for answer in answers():
            writer.send_bytes(json.dumps(answer).encode())
            signal.alarm(SECONDS)
    finally:
        os._exit(0)


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(kind, (most, hard))
