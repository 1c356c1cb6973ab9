"""What Linux offers and other systems lack, in one place: done by other means there, or left out.

Windows has no fork, no locks on folders, no limits on resources, no reading or writing by position,
no owners of files. macOS lacks the swap of two folders in one step.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import FileIO
from pathlib import Path
from threading import Lock

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

CAN_FORK = hasattr(os, "fork")

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_seeking = Lock()


def open_flags(*names: str) -> int:
    """Flags of `os.open` by name, one that this system lacks left out; never a mode for text.

    Example:
        >>> open_flags("O_RDWR", "O_NO_SUCH") & os.O_RDWR == os.O_RDWR
        True
    """
    return sum(getattr(os, name, 0) for name in {"O_BINARY", *names})


def cores() -> int:
    """Cores that this process may use.

    Example:
        >>> cores() >= 1
        True
    """
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return found or 1


def read_at(file: FileIO, out: memoryview, position: int) -> int:
    """Read into `out` from a position on, other threads at theirs; returns how many bytes."""
    if sys.platform != "win32" and hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [out], position)
    with FileIO(file.name) as own:
        own.seek(position)
        return own.readinto(out)


def write_at(descriptor: int, data: memoryview, position: int) -> int:
    """Write from a position on, other threads at theirs; returns how many bytes were written."""
    if sys.platform != "win32" and hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, position)
    with _seeking:
        os.lseek(descriptor, position, os.SEEK_SET)
        return os.write(descriptor, data)


def flush(path: Path) -> None:
    """Return when a file or folder is on the disk; Windows has no way to flush a folder."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move(path: Path, place: Path) -> None:
    """Rename a file or a folder, in one step; a file that is there, or an empty folder, is gone."""
    if os.name == "nt" and place.is_dir():
        place.rmdir()  # or Windows refuses
    path.replace(place)


def exchange_at_once(new: Path, old: Path) -> bool:
    """Swap two folders in one step; False where the system cannot, and nothing was done.

    Raises:
        OSError: It can, and may not.
    """
    if sys.platform != "linux":
        return False
    import ctypes

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    paths = os.fsencode(new), os.fsencode(old)
    if rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return True
    if ctypes.get_errno() not in (errno.ENOSYS, errno.EINVAL):
        raise OSError(ctypes.get_errno(), "renameat2", str(old))
    return False


def lock_folder(folder: Path) -> Callable[[], None]:
    """Have a folder to oneself, until what is returned is called, or the process ends.

    Where folders cannot be locked, a file beside it stands for the lock.

    Raises:
        BlockingIOError: Another process has it.
        OSError: It is no folder, or is gone.
    """
    if sys.platform != "win32" and fcntl:
        release = _lock(folder)
    else:
        release = _lock_beside(folder)
    if not folder.is_dir():
        release()
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    return release


if sys.platform != "win32":

    def _lock(folder: Path) -> Callable[[], None]:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(descriptor), folder.stat()):
                raise BlockingIOError  # it was published between opening and locking
        except OSError:
            os.close(descriptor)
            raise
        return partial(os.close, descriptor)


def _lock_beside(folder: Path) -> Callable[[], None]:
    path = folder.with_name(f".{folder.name}.lock")
    # Windows removes it when the process ends, however it ends.
    flags = open_flags("O_CREAT", "O_EXCL", "O_RDWR", "O_TEMPORARY")
    try:
        descriptor = os.open(path, flags)
    except FileExistsError as error:
        raise BlockingIOError from error

    def release() -> None:
        os.close(descriptor)
        with suppress(OSError):
            path.unlink()

    return release


def allow_many_files() -> None:
    """Lift the soft limit on open files, where there is one: every shard of every model is open."""
    if sys.platform != "win32" and resource:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def user_id() -> int | None:
    """The user whose files are trusted; None where files have no owner that could be asked for."""
    if sys.platform != "win32" and hasattr(os, "geteuid"):
        return os.geteuid()
    return None
