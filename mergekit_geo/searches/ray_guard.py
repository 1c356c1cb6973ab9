"""Ends what a Ray cluster leaves behind where the process that started it is killed.

Ray's servers end with that process, but some of their helpers go on for a minute or more. This is
run as a program, by its path: it looks at what that process starts until the cluster is up, waits
for its end, and then ends what is left.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from select import select

import psutil

TRIES, PAUSE = 50, 0.1


class Guard:
    """The program, seen from the process that starts it, before that starts a cluster.

    Args:
        folder: Removed at the end.
    """

    def __init__(self, folder: str) -> None:
        others = [str(process.pid) for process in _started_by(psutil.Process())]
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, folder, *others], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def note_started(self) -> None:
        """Tell it that the cluster is up: what is started from now on is not Ray's."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"started\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Let it do its work, and wait for that."""
        self._process.communicate()


def watched(others: Iterable[int]) -> set[psutil.Process]:
    """Processes that the parent of this one has started, once it has ended.

    Args:
        others: Numbers of those that are none of Ray's.
    """
    parent = psutil.Process().parent()
    known: set[psutil.Process] = set()
    is_up = False
    while not is_up and parent:
        is_up = bool(select([sys.stdin], [], [], PAUSE)[0])
        known |= set(_started_by(parent))
    sys.stdin.read()
    return {process for process in known if process.pid not in {psutil.Process().pid, *others}}


def end(known: Iterable[psutil.Process], folder: str) -> None:
    """Kill processes, unless others have their numbers by now, and remove a folder of theirs.

    Args:
        known: The processes.
        folder: Its path.
    """
    for process in known:
        with suppress(psutil.Error):
            process.kill()
    for _ in range(TRIES):  # those that end may still write
        shutil.rmtree(folder, ignore_errors=True)
        if not Path(folder).exists():
            return
        time.sleep(PAUSE)


def _started_by(parent: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return parent.children(recursive=True)
    return []


if __name__ == "__main__":
    end(watched(map(int, sys.argv[2:])), sys.argv[1])
