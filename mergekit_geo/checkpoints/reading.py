"""Bytes of a file, read by position into a buffer that is kept.

Mapping whole files would count every page touched as resident; this holds memory constant.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from io import FileIO
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.checkpoints.header import ITEM_BYTES, Entries, TensorInfo
from mergekit_geo.checkpoints.unchanged import Stamp
from mergekit_geo.errors import ChangedError
from mergekit_geo.portable import read_at

Bytes = NDArray[np.uint8]
"""A contiguous one-dimensional buffer of bytes."""

Read = Callable[[str, int, int, Bytes], None]
"""Puts elements `start` to `stop` of a flattened tensor into a buffer, as they are stored."""


class FileReader:
    """Reads tensors of safetensors files, by position.

    Args:
        entries: What each tensor is, and where its bytes are.
        stamps: Of the files, as they were before anything was read.
    """

    def __init__(self, entries: Entries, stamps: Iterable[Stamp]) -> None:
        self._entries = entries
        self._stamps = {stamp.path: stamp for stamp in stamps}
        self._files: dict[Path, FileIO] = {}
        self._opening = Lock()

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every tensor's dtype and shape."""
        return {name: info for name, (info, _) in self._entries.items()}

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        """Put elements `start` to `stop` of the flattened tensor into `out`, as they are stored."""
        info, place = self._entries[name]
        size = ITEM_BYTES[info.dtype]
        position = place.offset + start * size
        read_into(self.open(place.path), position, out[: (stop - start) * size])

    def open(self, path: Path) -> FileIO:
        """One of the files, opened once.

        Raises:
            ChangedError: It is not the file of the stamp.
        """
        with self._opening:
            if path not in self._files:
                self._files[path] = self._stamps[path].open()
            return self._files[path]

    def fingerprint(self) -> list[list[object]]:
        """Path, size, times of change and header hash of each file that holds tensors."""
        paths = sorted({place.path for _, place in self._entries.values()})
        return [_fingerprint(self._stamps[path]) for path in paths]


def _fingerprint(stamp: Stamp) -> list[object]:
    """A safetensors file's path, size, times of change, and a hash of its header.

    A program can set the time at which content was changed; it cannot set the other.

    Raises:
        ChangedError: It is not the file that was opened.
    """
    with stamp.open() as file:
        length = int.from_bytes(file.read(8), "little")
        digest = hashlib.sha256(file.read(length)).hexdigest()
        times = [stamp.mtime_ns, os.fstat(file.fileno()).st_ctime_ns]
    return [str(stamp.path.resolve()), stamp.size, *times, digest]


def read_into(file: FileIO, position: int, out: Bytes) -> None:
    """Fill `out` with the bytes from `position` on.

    Raises:
        ChangedError: The file ends before that, as it did not when its header was read.
    """
    done = 0
    while done < len(out):
        count = read_at(file, out[done:].data, position + done)
        if count == 0:
            raise ChangedError(
                "the file was cut short while it was read",
                where=str(file.name),
                remedy="let whatever writes it finish, and run the command again",
            )
        done += count
