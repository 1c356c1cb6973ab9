"""Gram matrices on their way to the disk: one safetensors file a layer, each replaced as a whole.

A file says of how many calls of its layer it is the sum, so that a pass that was killed goes on
where it was, to the same bytes. What is read is checked against a checksum.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from mergekit_geo.checkpoints.dtypes import bytes_of
from mergekit_geo.errors import DiskFullError, OutputError
from mergekit_geo.files.user_cache import CacheFolder, Warn
from mergekit_geo.printable import in_gigabytes

ITEM = 4
"""Bytes of an element: float32."""

HEADER = 512
"""Bytes of a file before its elements."""

STATE = "state.json"
ELSEWHERE = "XDG_CACHE_HOME=/another/disk keeps them elsewhere"


@dataclass(frozen=True)
class Mark:
    """How far the Gram matrix of a layer is.

    Attributes:
        batch: Number of the last batch that it has seen something of; -1 before the first.
        calls: Calls of the layer in that batch that it has seen.
        rows: Positions that it is the sum of.
    """

    batch: int = -1
    calls: int = 0
    rows: int = 0

    def has(self, batch: int, call: int) -> bool:
        """Whether a call, counted from 0 in its batch, is in the sum."""
        return batch < self.batch or (batch == self.batch and call < self.calls)


class Spool:
    """Gram matrices of one pass, in a folder of the user's cache.

    Args:
        name: Of the folder, which changes when the matrices would.
        warn: Told why something that is kept cannot be used.
    """

    def __init__(self, name: str, warn: Warn = lambda text: None) -> None:
        self.cache = CacheFolder(name, warn)

    @property
    def folder(self) -> Path:
        """Path of the folder."""
        return self.cache.folder

    def state(self) -> dict[str, Any]:
        """What was noted of the pass; empty before it has begun."""
        found = self.cache.read(STATE)
        return {} if found is None else dict(json.loads(found))

    def note(self, state: dict[str, Any]) -> None:
        """Note how far the pass is."""
        text = json.dumps(state, sort_keys=True).encode()
        self._require(self.cache.write(STATE, lambda file: file.write(text)))

    def begin(self, nbytes: int) -> None:
        """Make the folder, where there is room.

        Raises:
            DiskFullError: The disk does not hold so many bytes.
        """
        try:
            self.cache.make()
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise _unusable(self.folder, str(error)) from error
        if nbytes > free:
            raise DiskFullError(
                f"the Gram matrices need {in_gigabytes(nbytes)}, {in_gigabytes(free)} are free",
                where=str(self.folder),
                remedy=f"free some space; {ELSEWHERE}",
            )

    def clear(self) -> None:
        """Remove all that is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def mark(self, file: str) -> Mark:
        """How far a file is; the beginning where there is none that can be used."""
        header = self._stated(file)
        return Mark(*header["mark"]) if header else Mark()

    def checksum(self, file: str) -> int | None:
        """Digest of a file's elements, as it states; None where there is none that can be used."""
        found: int | None = self._stated(file).get("crc32")
        return found

    def _stated(self, file: str) -> dict[str, Any]:
        path = self.cache.trusted(file)
        if path is None:
            return {}
        with path.open("rb") as opened:
            return _header(opened)

    def read(self, file: str, into: Tensor) -> bool:
        """Fill a (w, w) float32 tensor on the CPU; says whether the file holds what was written."""
        path = self.cache.trusted(file)
        if path is None:
            return False
        data = _bytes(into)
        with path.open("rb") as opened:
            header = _header(opened)
            count = opened.readinto(data) if header else 0
        return bool(header) and count == len(data) and zlib.crc32(data) == header["crc32"]

    def write(self, file: str, weight: str, gram: Tensor, mark: Mark) -> None:
        """Replace a file.

        Args:
            file: Its name.
            weight: Of the layer.
            gram: (w, w) float32 on the CPU.
            mark: Of how many calls it is the sum.

        Raises:
            OutputError: It cannot be written; what was there still is.
        """
        data = _bytes(gram)
        found = {
            "mark": [mark.batch, mark.calls, mark.rows], "weight": weight, "crc32": zlib.crc32(data)
        }  # fmt: skip
        self._require(self.cache.write_plain(file, partial(_fill, _packed(found, gram), data)))

    def _require(self, kept: bool) -> None:
        if not kept:
            raise _unusable(self.folder, "see the warning before")


def _bytes(gram: Tensor) -> memoryview:
    """The bytes of a contiguous tensor on the CPU, shared with it."""
    return memoryview(bytes_of(gram))  # type: ignore[arg-type]


def _fill(header: bytes, data: memoryview, file: BinaryIO) -> None:
    file.write(header)
    file.write(data)


def _packed(found: dict[str, Any], gram: Tensor) -> bytes:
    """The header of a safetensors file of one tensor."""
    entry = {"dtype": "F32", "shape": list(gram.shape), "data_offsets": [0, gram.nbytes]}
    own = {"__metadata__": {"gram": json.dumps(found)}, "gram": entry}
    text = json.dumps(own).encode()
    length = max(HEADER - 8, -(-len(text) // 8) * 8)
    return length.to_bytes(8, "little") + text.ljust(length)


def _header(file: BinaryIO) -> dict[str, Any]:
    """What is stated at the beginning of a file, which stands after it then; empty for no such."""
    try:
        length = int.from_bytes(file.read(8), "little")
        raw = json.loads(file.read(min(length, 1 << 16)))
        return dict(json.loads(raw["__metadata__"]["gram"]))
    except (ValueError, KeyError, TypeError):
        return {}


def _unusable(folder: Path, why: str) -> OutputError:
    return OutputError(f"Gram matrices cannot be kept: {why}", where=str(folder), remedy=ELSEWHERE)


def empty(width: int, room: Tensor) -> Tensor:
    """A (w, w) view of the beginning of a buffer."""
    return room[: width * width].view(width, width)


def room_for(widths: Sequence[int]) -> Tensor:
    """A buffer of float32 for the largest of matrices of these widths."""
    return torch.empty(max(widths) ** 2)
