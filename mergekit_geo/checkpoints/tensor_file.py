"""Tensors of ours in one safetensors file, which are no model: read like a checkpoint's."""

from __future__ import annotations

from pathlib import Path

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.header import read_header
from mergekit_geo.checkpoints.reading import FileReader
from mergekit_geo.checkpoints.unchanged import Stamp


def open_tensors(path: Path, name: str) -> Checkpoint:
    """All tensors of a file.

    Args:
        path: The safetensors file.
        name: What a report calls them.

    Raises:
        FormatError: The file is unsound.
    """
    stamps = (Stamp.of(path),)
    reader = FileReader(read_header(path), stamps)
    reader.open(path)
    return Checkpoint(
        name=name, tensors=reader.tensors, read=reader.read, fingerprint=reader.fingerprint,
        stamps=stamps,
    )  # fmt: skip
