"""A bend of a fitted curve, one of several in a safetensors file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.header import read_header
from mergekit_geo.checkpoints.reading import FileReader
from mergekit_geo.checkpoints.unchanged import Stamp


def prefix(number: int) -> str:
    """Prefix of the names of a bend's tensors; bends count from 0."""
    return f"bend.{number}."


def open_bend(path: Path, number: int, name: str) -> Checkpoint:
    """The tensors of a file whose names begin with a bend's prefix.

    Args:
        path: The safetensors file.
        number: Of the bend.
        name: What a report calls it.

    Raises:
        FormatError: The file is unsound.
    """
    stamps, begin = (Stamp.of(path),), prefix(number)
    entries = {
        key.removeprefix(begin): entry
        for key, entry in read_header(path).items()
        if key.startswith(begin)
    }
    reader = FileReader(entries, stamps)
    reader.open(path)
    return Checkpoint(
        name=name,
        tensors=reader.tensors,
        read=reader.read,
        fingerprint=lambda: [_digest(path), number],
        stamps=stamps,
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
