"""How a file or a folder takes its place whole or not at all: made beside it, flushed, renamed.

Nothing else in the package renames.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp

from mergekit_geo.portable import exchange_at_once, flush, move


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
        move(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def flush_tree(folder: Path) -> None:
    """Return when a folder and all that is in it are on the disk."""
    for path in [*folder.rglob("*"), folder]:
        flush(path)


def exchange(new: Path, old: Path) -> None:
    """Swap two folders in one step; in two where the system cannot."""
    if exchange_at_once(new, old):
        return
    aside = old.with_name(old.name + ".old")
    move(old, aside)
    move(new, old)
    move(aside, new)


def _unique(path: Path) -> Path:
    handle, fresh = mkstemp(dir=path.parent, prefix=f"{path.name}.")
    os.close(handle)
    return Path(fresh)
