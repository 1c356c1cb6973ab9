"""Files that can be read to their end: no pipe that waits, no device that never ends."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

from mergekit_geo.portable import open_flags

READ = (".json", ".safetensors", ".model", ".txt", ".jinja", ".py", ".spm", ".tiktoken")
"""Ends of the names of files that are read, copied, or handed to transformers."""

TEXT_BYTES = 1 << 28
"""Size of the largest text that is read at once: vocabularies, indexes, settings."""

KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip


def require_regular(path: Path) -> None:
    """Refuse whatever is no file on a disk; links are followed.

    Raises:
        OSError: It is something else, or there is nothing; `strerror` says what.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = next((said for is_kind, said in KINDS if is_kind(mode)), "something else")
        raise OSError(errno.EINVAL, f"expected a file, found {kind}", str(path))


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bytes(path: Path, most: int = TEXT_BYTES) -> bytes:
    """The whole of a file.

    Args:
        path: Of the file.
        most: Bytes that it may have.

    Raises:
        OSError: It is no file, too large, or unreadable; `strerror` says which.
    """
    descriptor = os.open(path, open_flags("O_RDONLY", "O_NONBLOCK", "O_CLOEXEC"))
    with os.fdopen(descriptor, "rb") as file:
        require_regular(path)
        size = os.fstat(descriptor).st_size
        if size > most:
            raise OSError(
                errno.EFBIG, f"expected at most {most:,} bytes, found {size:,}", str(path)
            )
        return file.read(size)


def find_irregular(folder: Path) -> str | None:
    """What is wrong with a folder's files, where one of those that are read is none; else None."""
    for path in sorted(folder.iterdir()):
        if path.suffix not in READ or (path.is_dir() and path.suffix not in READ[:2]):
            continue
        try:
            require_regular(path)
        except OSError as error:
            return f"{path.name}: {error.strerror}"
    return None
