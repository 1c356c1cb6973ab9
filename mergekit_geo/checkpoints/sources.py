"""Where a checkpoint comes from: its folder or repository, or those of a base and an adapter."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mergekit_geo.checkpoints.adapter.files import Adapter
from mergekit_geo.checkpoints.checkpoint import Checkpoint, original
from mergekit_geo.records.model import Source


def parts_of(checkpoint: Checkpoint) -> tuple[Checkpoint | Adapter, ...]:
    """The checkpoint as it was read, or the two parts of an adapter: the base, then the adapter."""
    found = original(checkpoint)
    return (found,) if found.adapted is None else (found.adapted.base, found.adapted.adapter)


def sources_of(checkpoint: Checkpoint) -> list[Source]:
    """One source, or two for an adapter: the base, then what is added to it."""
    return [Source(name=part.name, revision=part.revision) for part in parts_of(checkpoint)]


def folders_of(checkpoints: Iterable[Checkpoint]) -> list[Path]:
    """Every folder that checkpoints are read from."""
    parts = [part for checkpoint in checkpoints for part in parts_of(checkpoint)]
    return [part.folder for part in parts if part.folder is not None]


def pinned(checkpoint: Checkpoint) -> str:
    """A reference that opens just this checkpoint again."""
    return "+".join(source.pinned for source in sources_of(checkpoint))
