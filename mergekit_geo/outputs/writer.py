"""Tensors written by position into preallocated safetensors files."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.errors import DiskFullError, OutputError
from mergekit_geo.outputs.layout import Shard
from mergekit_geo.portable import open_flags, write_at
from mergekit_geo.printable import in_gigabytes

if TYPE_CHECKING:
    from torch import Tensor

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ShardWriter:
    """Preallocates the files of an output and writes elements at their place.

    `write` may be called from several threads.

    Args:
        folder: Where the files go; files of the right size are kept, so that a run can resume.
        shards: From `plan_shards`.

    Raises:
        DiskFullError: The disk, a quota or a limit does not hold them.
        OutputError: They cannot be written for another reason.
    """

    def __init__(self, folder: Path, shards: list[Shard]) -> None:
        self.folder, self.shards = folder, shards
        self._needed = sum(shard.nbytes for shard in shards)
        check_space(folder, self._needed, sum(_size(folder / shard.file) for shard in shards))
        self._files: dict[str, int] = {}
        self._places: dict[str, tuple[int, int]] = {}
        try:
            for shard in shards:
                descriptor = self._create(shard)
                for name, offset in shard.offsets.items():
                    self._places[name] = (descriptor, offset)
        except BaseException:
            self.close()
            raise

    def write(self, name: str, position: int, data: Bytes) -> None:
        """Store `data` from byte `position` of a tensor on."""
        descriptor, offset = self._places[name]
        view, place = data.data, offset + position
        with output_errors(self.folder.parent, self._needed):
            while view:
                written = write_at(descriptor, view, place)
                view, place = view[written:], place + written

    def flush(self) -> None:
        """Return when everything written is on the disk."""
        for descriptor in self._files.values():
            os.fsync(descriptor)

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def _create(self, shard: Shard) -> int:
        path = self.folder / shard.file
        descriptor = os.open(path, open_flags("O_RDWR", "O_CREAT", "O_NOFOLLOW"), 0o666)
        self._files[shard.file] = descriptor
        with output_errors(self.folder.parent, self._needed):
            _allocate(descriptor, shard.nbytes)
            write_at(descriptor, memoryview(shard.header), 0)
        return descriptor


def check_space(folder: Path, needed: int, present: int) -> None:
    """Refuse to begin an output that the disk does not hold.

    Args:
        folder: Where it is made.
        needed: Its bytes.
        present: How many of them are there already.

    Raises:
        DiskFullError: The rest does not fit.
    """
    if needed - present > shutil.disk_usage(folder).free:
        raise disk_full(None, folder.parent, needed)


def bytes_in(folder: Path) -> int:
    """Size of all files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def disk_full(error: OSError | None, folder: Path, needed: int) -> DiskFullError:
    """The error of an output of `needed` bytes that `folder` does not hold."""
    reason = error.strerror if error else "not enough space"
    return DiskFullError(
        f"{reason}: the output needs {in_gigabytes(needed)}, "
        f"and {in_gigabytes(shutil.disk_usage(folder).free)} are free there",
        where=str(folder),
        remedy="free some space, or write to another disk with -o",
    )


@contextmanager
def output_errors(folder: Path, needed: int) -> Iterator[None]:
    """Turn what the system says while an output is written into our errors.

    Raises:
        DiskFullError: The disk, a quota or a limit does not hold it.
        OutputError: It cannot be written for another reason.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(error, folder, needed) from error
        raise OutputError(str(error), where=str(folder)) from error


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with the official library.

    Raises:
        OSError: What the system said, which the library wraps.
    """
    from safetensors.torch import save_file  # loads torch

    try:
        save_file(dict(tensors), path, dict(metadata))
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _allocate(descriptor: int, nbytes: int) -> None:
    """Reserve the space now rather than fail in the middle, where the platform can."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, nbytes)
        except OSError as error:
            if error.errno in FULL:
                raise
    os.ftruncate(descriptor, nbytes)
