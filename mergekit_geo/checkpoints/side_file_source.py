"""Which of several checkpoints an output has its configuration and tokenizer from."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.checkpoints.checkpoint import Checkpoint, original


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
