"""Ends what a Ray cluster leaves behind where the process that started it is killed.

Ray's servers end with that process, but some of their helpers go on for a minute or more. This is
run as a program, by its path; it is told of processes line by line, and works when nobody is left
to tell it of more.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

TRIES, PAUSE = 50, 0.1


class Guard:
    """The program, seen from the process that starts it.

    Args:
        folder: Removed at the end.
    """

    def __init__(self, folder: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, folder], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def watch(self) -> None:
        """Tell it of all other processes that this one has started."""
        started = psutil.Process().children(recursive=True)
        others = [process for process in started if process.pid != self._process.pid]
        lines = [f"{process.pid} {process.create_time()}\n" for process in others]
        assert self._process.stdin is not None
        self._process.stdin.write("".join(lines).encode())
        self._process.stdin.flush()

    def end(self) -> None:
        """Let it do its work, and wait for that."""
        self._process.communicate()


def kill(known: Iterable[str]) -> None:
    """Kill processes, unless others have their numbers by now.

    Args:
        known: Of each the number and the time when it was started.
    """
    for line in known:
        number, created = line.split()
        with suppress(psutil.Error):
            process = psutil.Process(int(number))
            if process.create_time() == float(created):
                process.kill()


def remove(folder: str) -> None:
    """Remove a folder in which processes that end may still write.

    Args:
        folder: Its path.
    """
    for _ in range(TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not Path(folder).exists():
            return
        time.sleep(PAUSE)


if __name__ == "__main__":
    kill(sys.stdin.readlines())
    remove(sys.argv[1])
