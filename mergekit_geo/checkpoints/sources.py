"""Where a checkpoint comes from: its folder or repository, or those of a base and an adapter.

And which of several checkpoints an output has its configuration and tokenizer from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.files.local_path import local_path
from mergekit_geo.records.model import Source

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.adapter.files import Adapter


def original(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint under its own names."""
    while checkpoint.of is not None and checkpoint.stored is not None:
        checkpoint = checkpoint.of
    return checkpoint


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


def opening(checkpoint: Checkpoint) -> str:
    """What opens a checkpoint again: its name, or its folder where a recipe has named it."""
    found = original(checkpoint)
    is_named = found.revision is None and found.adapted is None and found.folder is not None
    return str(found.folder) if is_named and not local_path(found.name).is_dir() else found.name


def side_files_from(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """The first checkpoint, or the first adapter on it that brings a tokenizer.

    Tokens that adapters were trained with are lost with the tokenizer of their base.
    """
    first, *others = checkpoints
    bringing = (c for c in others if is_base_of(first, c) and _brings(original(c)))
    return next(bringing, first)


def is_base_of(checkpoint: Checkpoint, other: Checkpoint) -> bool:
    """Whether another is an adapter on just this checkpoint."""
    found, folder = original(other).adapted, checkpoint.folder
    if found is None or original(checkpoint).adapted is not None:
        return False
    base = found.base.folder
    return folder is not None and base is not None and folder.resolve() == base.resolve()


def _brings(checkpoint: Checkpoint) -> bool:
    side_files = checkpoint.adapted.side_files if checkpoint.adapted else None
    return side_files is not None and side_files.brings
