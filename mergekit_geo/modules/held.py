"""Anchors kept in memory, for paths along which they are read again and again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import psutil

from mergekit_geo.checkpoints.adapter.adapter import of_sum
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.derived import renamed
from mergekit_geo.checkpoints.header import ITEM_BYTES
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.checkpoints.sources import original
from mergekit_geo.errors import ArgumentError

MODES = ("auto", "on", "off")
SHARE = 0.25
"""Most of the free memory that anchors take by themselves."""


class _Held:
    """All bytes of a checkpoint, read once."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._sizes = {n: ITEM_BYTES[info.dtype] for n, info in checkpoint.tensors.items()}
        self._data = {name: _whole(checkpoint, name) for name in checkpoint.tensors}

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        size = self._sizes[name]
        out[: (stop - start) * size] = self._data[name][start * size : stop * size]


def held_copy(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint whose bytes are all in memory, as it was when they were read."""
    fingerprint = checkpoint.fingerprint()
    return Checkpoint(
        name=checkpoint.name,
        tensors=checkpoint.tensors,
        read=_Held(checkpoint).read,
        fingerprint=lambda: fingerprint,
        config=checkpoint.config,
        folder=checkpoint.folder,
        revision=checkpoint.revision,
        ties=checkpoint.ties,
        stamps=checkpoint.stamps,
        renamed=original(checkpoint).renamed,
        reshaped=checkpoint.reshaped,
        frame=checkpoint.frame,
        copied=checkpoint.copied,
        within=checkpoint.within,
        in_memory=True,
        inside=checkpoint.inside,
    )


def hold(anchors: Sequence[Checkpoint], mode: str = "auto") -> tuple[Checkpoint, ...]:
    """The anchors, in memory if asked for or if they are small beside what is free.

    Of adapters the base is held, once for all that share it, and no sum.

    Args:
        anchors: Checkpoints whose data is here.
        mode: `auto`, `on` or `off`.

    Raises:
        ArgumentError: Another mode.
    """
    if mode not in MODES:
        raise ArgumentError(f"anchors-in-memory {mode!r}: expected one of {', '.join(MODES)}")
    if mode == "off" or (mode == "auto" and not _fit(anchors)):
        return tuple(anchors)
    bases: dict[str, Checkpoint] = {}
    return tuple(a if original(a).in_memory else _with_base(a, bases) for a in anchors)


def _with_base(anchor: Checkpoint, bases: dict[str, Checkpoint]) -> Checkpoint:
    """An anchor held, or its base where it is an adapter on one; bases by their fingerprint."""
    if original(anchor).adapted is None or anchor.reshaped:
        return held_copy(anchor)
    if anchor.of is not None and anchor.stored is not None:
        found = renamed(_with_base(anchor.of, bases), anchor.stored)
        return replace(found, copied=anchor.copied)
    assert anchor.adapted is not None
    base = anchor.adapted.base
    key = _key(base)
    if key not in bases:
        bases[key] = held_copy(base)
    return of_sum(anchor.name, anchor.adapted.over(bases[key]))


def _key(checkpoint: Checkpoint) -> str:
    return json.dumps(checkpoint.fingerprint())


def _fit(anchors: Sequence[Checkpoint]) -> bool:
    found = [original(anchor) for anchor in anchors]
    bases = {_key(a.adapted.base): a.adapted.base for a in found if a.adapted is not None}
    plain = [a for a in found if a.adapted is None]
    needed = sum(info.nbytes for a in [*plain, *bases.values()] for info in a.tensors.values())
    return bool(needed < SHARE * psutil.virtual_memory().available)


def _whole(checkpoint: Checkpoint, name: str) -> Bytes:
    info = checkpoint.tensors[name]
    data = np.empty(info.nbytes, np.uint8)
    checkpoint.read(name, 0, info.count, data)
    return data
