"""Views of a model some of whose tensors are read from other models."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.header import ITEM_BYTES, TensorInfo
from mergekit_geo.checkpoints.reading import Bytes, Read
from mergekit_geo.checkpoints.reshape.frame import Frame
from mergekit_geo.checkpoints.reshape.rows import read_as
from mergekit_geo.checkpoints.reshape.view import view


@dataclass(frozen=True)
class Piece:
    """A tensor of a view.

    Attributes:
        source: What it is read from.
        stored: Its name there.
        rest: What is read after the end of that, where it has fewer rows; under the view's name.
        written: What an output rounds it to; its own dtype if empty.
    """

    source: Checkpoint
    stored: str
    rest: Checkpoint | None = None
    written: str = ""

    @property
    def sources(self) -> list[Checkpoint]:
        """All that it is read from."""
        return [self.source, *([self.rest] if self.rest else [])]


def pieced(
    checkpoint: Checkpoint, pieces: Mapping[str, Piece], frame: Frame, copied: Collection[str]
) -> Checkpoint:
    """A view of a checkpoint, some of whose tensors are read from others.

    Args:
        checkpoint: Where it comes from.
        pieces: Of each tensor of the view, by its name.
        frame: Configuration and side files.
        copied: Names of tensors that a merge copies.
    """
    own = {name: one.stored for name, one in pieces.items() if one.source is checkpoint}
    every = dict.fromkeys(one for piece in pieces.values() for one in piece.sources)
    sources = tuple(one for one in every if one is not checkpoint)
    said = ["parts", sorted(own.items()), [one.fingerprint() for one in sources]]
    found = view(
        checkpoint,
        {name: _info(name, piece) for name, piece in pieces.items()},
        partial(_reader, checkpoint, pieces),
        frame,
        said,
    )
    return replace(
        found,
        is_local=all(one.is_local for one in (checkpoint, *sources)),
        stored=own,
        ties={},
        copied=frozenset(copied),
        fetched=lambda _: _fetched(checkpoint, pieces, frame, copied),
    )


def _fetched(
    checkpoint: Checkpoint, pieces: Mapping[str, Piece], frame: Frame, copied: Collection[str]
) -> Checkpoint:
    """The view over what has been downloaded."""
    every = {one for piece in pieces.values() for one in piece.sources}
    there = {one: one.fetch() for one in {checkpoint, *every}}
    found = {
        name: replace(piece, source=there[piece.source], rest=piece.rest and there[piece.rest])
        for name, piece in pieces.items()
    }
    return pieced(there[checkpoint], found, frame, copied)


def _info(name: str, piece: Piece) -> TensorInfo:
    info = piece.source.tensors[piece.stored]
    if piece.rest is None:
        return replace(info, written=piece.written or info.written)
    rest = piece.rest.tensors[name]
    wider = "F64" if "F64" in (info.dtype, rest.dtype) else "F32"
    dtype = info.dtype if info.dtype == rest.dtype else wider
    return TensorInfo(dtype, rest.shape, piece.written or info.written or info.dtype)


def _reader(checkpoint: Checkpoint, pieces: Mapping[str, Piece], fetched: Checkpoint) -> Read:
    dtypes = {name: _info(name, piece).dtype for name, piece in pieces.items() if piece.rest}

    def read(name: str, start: int, stop: int, out: Bytes) -> None:
        piece = pieces[name]
        source = fetched if piece.source is checkpoint else piece.source
        if piece.rest is None:
            source.read(piece.stored, start, stop, out)
            return
        count, dtype = source.tensors[piece.stored].count, dtypes[name]
        middle = min(max(count, start), stop)
        border = (middle - start) * ITEM_BYTES[dtype]
        read_as(dtype, source, piece.stored, start, out[:border])
        read_as(dtype, piece.rest, name, middle, out[border:])

    return read


def with_copied(checkpoint: Checkpoint, copied: Collection[str]) -> Checkpoint:
    """A checkpoint of whose tensors a merge copies some."""
    return replace(
        checkpoint,
        copied=frozenset(copied),
        fetched=lambda _: with_copied(checkpoint.fetch(), copied),
    )
