"""What the system does for an output: a lock, an exchange of two folders in one step, flushing."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from pathlib import Path

from mergekit_geo.errors import OutputError
from mergekit_geo.files.replacement import flush

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def lock(folder: Path) -> int:
    """Have a folder to oneself, until the descriptor that is returned is closed.

    Raises:
        OutputError: Another run has it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), folder.stat()):
            raise BlockingIOError  # it was published between opening and locking
    except OSError as error:
        os.close(descriptor)
        busy = isinstance(error, BlockingIOError | FileNotFoundError)
        message = "another run is writing this output" if busy else f"cannot be locked: {error}"
        raise OutputError(message, where=str(folder)) from error
    return descriptor


def boot() -> str:
    """Changes when the machine starts anew, after which unflushed data cannot be trusted."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.is_file() else "unknown"


def exchange(new: Path, old: Path) -> None:
    """Swap two folders in one step; in two where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None:
        paths = os.fsencode(new), os.fsencode(old)
        if rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
            return
        if ctypes.get_errno() not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(ctypes.get_errno(), "renameat2", str(old))
    aside = old.with_name(old.name + ".old")
    old.rename(aside)
    new.rename(old)
    aside.rename(new)


def flush_tree(folder: Path) -> None:
    """Return when a folder and all that is in it are on the disk."""
    for path in [*folder.rglob("*"), folder]:
        flush(path)
