"""Output layers that one model ties to its embeddings and another stores."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.configuration import TIE, without_ties
from mergekit_geo.checkpoints.naming import schema_of
from mergekit_geo.checkpoints.parts import EMBEDDINGS, HEAD, TIED, may_tie, parts_of
from mergekit_geo.checkpoints.reshape.frame import Frame
from mergekit_geo.checkpoints.reshape.pieces import Piece, pieced


def with_own_head(
    whole: Checkpoint, others: Sequence[Checkpoint]
) -> tuple[Checkpoint, tuple[str, ...]]:
    """A model that ties its output layer, with one of its own where another has that.

    The tensor is its embeddings. The model as it is, if it has one or if nothing tells its name.
    """
    other = next((one for one in others if _has_own_head(one)), None)
    if other is None or _heads(whole):
        return whole, ()
    schema = schema_of(whole.config)
    head, source = next(((t, s) for t, s in schema.ties.items() if t.endswith(TIED)), ("", ""))
    stored = next((name for name in whole.tensors if schema.canonical(name) == source), None)
    if stored is None:
        return whole, ()
    pieces = {name: Piece(whole, name) for name in whole.tensors} | {head: Piece(whole, stored)}
    found = pieced(whole, pieces, Frame(whole, without_ties(whole.config)), ())
    return found, (
        f"{head} is tied to {stored} in {whole.name} and not in {other.name}: in the output it is "
        f"a tensor of its own, and {TIE} is false",
    )


def _has_own_head(checkpoint: Checkpoint) -> bool:
    """Whether a model stores an output layer that is not its embeddings."""
    stated = checkpoint.config.get(TIE)
    if stated is not None or not _heads(checkpoint):
        return not stated and bool(_heads(checkpoint))
    schema = schema_of(checkpoint.config)
    return bool(schema.expected) and not any(name.endswith(TIED) for name in schema.ties)


def _heads(checkpoint: Checkpoint) -> list[str]:
    """Names of stored output layers that could be tied to embeddings."""
    parts = parts_of(checkpoint.tensors, checkpoint.config)
    return [name for name, part in parts.items() if part.kind == HEAD and name.endswith(TIED)]


def match_heads(mine: dict[str, str], theirs: dict[str, str], other: Checkpoint) -> None:
    """Output layers that are tied in one model only: the embedding stands for one not stored."""
    if not _has_own_head(other):
        for key in [key for key in theirs if key not in mine and key.endswith(TIED)]:
            del theirs[key]
    if not may_tie(other):
        return
    kinds = parts_of(other.tensors, other.config)
    for key in [key for key in mine if key not in theirs and key.endswith(TIED)]:
        found = [name for name in theirs.values() if kinds[name].kind == EMBEDDINGS]
        if found:  # positions have embeddings too, and fewer rows
            theirs[key] = max(found, key=lambda name: other.tensors[name].shape)
