"""The journal in which Optuna keeps a study, safe against processes that are killed.

A kill in the middle of a write leaves a torn last line: the next write cuts it off (Optuna's own
backend would write on behind it, and no process could read the file any more). A kill while the
lock is held leaves the lock: it names its process, and is taken away as soon as that has ended.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from mergekit_geo.errors import ArgumentError, OutputError
from mergekit_geo.files.sound_json import parse_json
from mergekit_geo.portable import lock_folder
from mergekit_geo.searches.owner import is_gone, owner

HEAD = b'{"op_code":'
"""Every journal of Optuna begins with this."""
WAIT = 0.01
PATIENCE = 60.0
"""Seconds after which the lock of another machine is taken away; a write takes a few hundredths."""
LASTING = (0, 2, 3, 6)
"""Operations of Optuna's journal that make a study, note on it, and end a trial."""
UNLINKED = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems without symbolic links answer."""
TURN = count()


class JournalFile(BaseJournalBackend):
    """Optuna's journal in a file, one JSON line an operation; others may write to it as well.

    Args:
        path: Of the file; it and its folder are made where they are missing.

    Raises:
        ArgumentError: There is a file, and it is no journal.
        OSError: The file cannot be read or made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with path.open("rb") as file:
            head = file.read(len(HEAD))
        if head != HEAD[: len(head)]:
            raise ArgumentError(
                "expected a journal of Optuna, found something else", where=str(path),
                remedy="name a file that is a study, or one that does not exist yet",
            )  # fmt: skip
        self._read, self._end = 0, 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Every operation from one on; a last line that is not whole is none yet."""
        if log_number_from < self._read:
            self._read, self._end = 0, 0
        with self.path.open("rb") as file:
            file.seek(self._end)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                operation = self._parsed(line)
                self._read, self._end = self._read + 1, self._end + len(line)
                if self._read > log_number_from:
                    yield operation

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            operation: dict[str, Any] = parse_json(line.decode("utf-8"))
            if "op_code" not in operation:
                raise ValueError("no operation")
        except (ValueError, TypeError) as error:
            raise OutputError(
                f"the journal is damaged: line {self._read + 1} is no operation",
                where=str(self.path), remedy="take it out, or begin in another file by --storage",
            ) from error  # fmt: skip
        return operation

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write operations behind the last whole line: no kill takes them away.

        The end of a trial is on the disk on return, and so is all that was noted before it.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with locked(self.path), self.path.open("rb+") as file:
            file.seek(_end_of_whole_lines(file.fileno()))
            file.truncate()
            file.write(lines)
            file.flush()
            if any(log["op_code"] in LASTING for log in logs):
                os.fsync(file.fileno())


def _end_of_whole_lines(descriptor: int, step: int = 1 << 16) -> int:
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - step)
        os.lseek(descriptor, start, os.SEEK_SET)
        found = os.read(descriptor, end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have a file to oneself, among processes of every machine that sees its folder."""
    lock = path.with_name(path.name + ".lock")
    mine = f"{owner()}#{next(TURN)}"
    _wait_for(lock, mine)
    try:
        yield
    finally:
        if _holder(lock) == mine:
            lock.unlink(missing_ok=True)


def _wait_for(lock: Path, mine: str) -> None:
    seen, since = "", time.monotonic()
    while not _taken(lock, mine):
        if (holder := _holder(lock)) != seen:
            seen, since = holder, time.monotonic()
        if is_gone(holder.partition("#")[0]) or time.monotonic() - since > PATIENCE:
            _take_away(lock, holder)
        else:
            time.sleep(WAIT)


def _taken(lock: Path, mine: str) -> bool:
    """A link to a name that is no file: it comes into being together with what it says."""
    try:
        lock.symlink_to(mine)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in UNLINKED or sys.platform == "win32":
            return _written(lock, mine)
        raise
    return True


def _written(lock: Path, mine: str) -> bool:
    """A file, where there are no symbolic links."""
    try:
        with lock.open("x", encoding="utf-8") as file:
            file.write(mine)
    except FileExistsError:
        return False
    return True


def _holder(lock: Path) -> str:
    try:
        return str(lock.readlink()) if lock.is_symlink() else lock.read_text("utf-8")
    except OSError:
        return ""


def _take_away(lock: Path, holder: str) -> None:
    """Remove the lock of a process that has ended; of several that find it, one does so."""
    try:
        release = lock_folder(lock.parent)
    except OSError:
        return time.sleep(WAIT)
    try:
        if _holder(lock) == holder:
            lock.unlink(missing_ok=True)
    finally:
        release()
    return None
