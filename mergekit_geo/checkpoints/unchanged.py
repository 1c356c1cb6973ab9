"""Whether files are still those that were opened: an input may be replaced while it is merged."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.side_files import side_files_of
from mergekit_geo.errors import ChangedError

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint


@dataclass(frozen=True)
class Stamp:
    """Identity and state of a file, by which replacement and change are detected.

    Attributes:
        path: Where it was.
        device: Of the file system.
        inode: Of the file.
        size: In bytes.
        mtime_ns: Time of the last change, in ns.
    """

    path: Path
    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Stamp of a file as it is now, before anything of it is read."""
        return cls._from(path, path.stat())

    @classmethod
    def _from(cls, path: Path, status: os.stat_result) -> Stamp:
        return cls(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def require(self) -> None:
        """Refuse a file that was replaced or changed since.

        Raises:
            ChangedError: It is one of these, or is gone.
        """
        try:
            now = Stamp.of(self.path)
        except OSError:
            now = None
        if now != self:
            raise _changed(self.path)

    def open(self) -> FileIO:
        """Open the file for reading, and check that it is unchanged.

        Raises:
            ChangedError: It is another one, or not what it was.
        """
        try:
            file = FileIO(self.path)
        except FileNotFoundError as error:
            raise _changed(self.path) from error
        if Stamp._from(self.path, os.fstat(file.fileno())) != self:
            file.close()
            raise _changed(self.path)
        return file


def stamps_in(folder: Path, *more: Path) -> tuple[Stamp, ...]:
    """Stamps of the files of a checkpoint's folder that are read or copied, and of others."""
    beside = [folder / file for file in side_files_of(folder)]
    return tuple(map(Stamp.of, sorted({*beside, *more})))


def require_unchanged(checkpoints: Iterable[Checkpoint]) -> None:
    """Refuse to go on with checkpoints of which a file was replaced, changed or removed.

    Raises:
        ChangedError: One was, since it was opened.
    """
    for stamp in {stamp for checkpoint in checkpoints for stamp in checkpoint.stamps}:
        stamp.require()


@contextmanager
def unchanged(checkpoints: Iterable[Checkpoint]) -> Iterator[None]:
    """Context of work on checkpoints; checks at the end that their files are unchanged.

    Raises:
        ChangedError: They are not, whatever else went wrong because of that.
    """
    try:
        yield
    except Exception:
        require_unchanged(checkpoints)
        raise
    require_unchanged(checkpoints)


def _changed(path: Path) -> ChangedError:
    return ChangedError(
        "this input was replaced, changed or removed since it was opened",
        where=str(path),
        remedy="let whatever writes it finish, and run the command again",
    )
