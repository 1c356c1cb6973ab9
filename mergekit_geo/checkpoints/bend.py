"""A bend of a fitted curve, one of several in a safetensors file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.header import ITEM_BYTES, TensorInfo, read_header
from mergekit_geo.checkpoints.reading import Bytes, read_into
from mergekit_geo.checkpoints.unchanged import Stamp


def prefix(number: int) -> str:
    """Prefix of the names of a bend's tensors; bends count from 0."""
    return f"bend.{number}."


class BendCheckpoint:
    """The tensors of a file whose names begin with a bend's prefix.

    Args:
        path: The safetensors file.
        number: Of the bend.
        name: What a report calls it.

    Raises:
        FormatError: The file is unsound.
    """

    is_local = True
    folder: Path | None = None
    revision: str | None = None
    ties: Mapping[str, str] = {}

    def __init__(self, path: Path, number: int, name: str) -> None:
        self.path, self.number, self.name = path, number, name
        self.config: Config = {}
        self.stamps = (Stamp.of(path),)
        begin = prefix(number)
        self._entries = {
            key.removeprefix(begin): entry
            for key, entry in read_header(path).items()
            if key.startswith(begin)
        }
        self.tensors: Mapping[str, TensorInfo] = {n: e[0] for n, e in self._entries.items()}
        self._file = self.stamps[0].open()

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        """Put elements `start` to `stop` of the flattened tensor into `out`, as they are stored."""
        info, place = self._entries[name]
        size = ITEM_BYTES[info.dtype]
        read_into(self._file, place.offset + start * size, out[: (stop - start) * size])

    def fingerprint(self) -> object:
        """SHA-256 of the file, and which bend of it."""
        with self.path.open("rb") as file:
            return [hashlib.file_digest(file, "sha256").hexdigest(), self.number]

    def fetch(self) -> BendCheckpoint:
        """Return this object: its data needs no download."""
        return self
