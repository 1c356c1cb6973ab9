"""A file that takes another's place whole or not at all: written beside it, flushed, renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp


@contextmanager
def replacing(path: Path, name: str | None = None, *, fsync: bool = True) -> Iterator[Path]:
    """Yield a path to write to; the file there replaces `path` at the end of the block.

    Args:
        path: The file, which stays as it was if the block raises.
        name: Of the new one until then; by default one that no other process writes, readable by
            the user alone.
        fsync: Flush it to the disk before.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "state"
        >>> with replacing(path) as fresh:
        ...     count = fresh.write_text("whole")
        >>> path.read_text(), len(list(path.parent.iterdir()))
        ('whole', 1)
    """
    fresh = _unique(path) if name is None else path.with_name(name)
    try:
        yield fresh
        if fsync:
            flush(fresh)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def flush(path: Path) -> None:
    """Return when a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unique(path: Path) -> Path:
    handle, fresh = mkstemp(dir=path.parent, prefix=f"{path.name}.")
    os.close(handle)
    return Path(fresh)
