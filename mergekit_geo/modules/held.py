"""Anchors kept in memory, for paths along which they are read again and again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mergekit_geo.checkpoints.adapter.adapter import AdapterCheckpoint
from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.header import ITEM_BYTES, TensorInfo
from mergekit_geo.checkpoints.memory import MemoryCheckpoint
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.checkpoints.renamed import AlignedCheckpoint, is_untied, original
from mergekit_geo.checkpoints.unchanged import stamps_of
from mergekit_geo.errors import ArgumentError

MODES = ("auto", "on", "off")
SHARE = 0.25
"""Most of the free memory that anchors take by themselves."""


class HeldCheckpoint:
    """A checkpoint whose bytes are all in memory.

    Args:
        checkpoint: Read once, whole.
    """

    is_local = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.name, self.revision = checkpoint.name, checkpoint.revision
        self.config: Config = checkpoint.config
        self.folder: Path | None = checkpoint.folder
        self.ties: Mapping[str, str] = checkpoint.ties
        self.tensors: Mapping[str, TensorInfo] = checkpoint.tensors
        self.stamps = stamps_of(checkpoint)
        self.untied = is_untied(checkpoint)
        self.renamed: str = getattr(original(checkpoint), "renamed", "")
        self._fingerprint = checkpoint.fingerprint()
        self._data = {name: _whole(checkpoint, name) for name in checkpoint.tensors}

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        """Put elements `start` to `stop` of the flattened tensor into `out`, as they are stored."""
        size = ITEM_BYTES[self.tensors[name].dtype]
        out[: (stop - start) * size] = self._data[name][start * size : stop * size]

    def fingerprint(self) -> object:
        """Identity of the checkpoint when it was read."""
        return self._fingerprint

    def fetch(self) -> HeldCheckpoint:
        """Return this object: its data needs no download."""
        return self


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
    held: dict[str, HeldCheckpoint] = {}
    return tuple(
        a if isinstance(original(a), MemoryCheckpoint) else _held(a, held) for a in anchors
    )


def _held(anchor: Checkpoint, bases: dict[str, HeldCheckpoint]) -> Checkpoint:
    if not isinstance(original(anchor), AdapterCheckpoint):
        return HeldCheckpoint(anchor)
    if isinstance(anchor, AlignedCheckpoint):
        held = _held(anchor.checkpoint, bases)
        return AlignedCheckpoint(held, anchor.stored, untied=anchor.untied)
    assert isinstance(anchor, AdapterCheckpoint)
    key = _key(anchor.base)
    if key not in bases:
        bases[key] = HeldCheckpoint(anchor.base)
    return anchor.over(bases[key])


def _key(checkpoint: Checkpoint) -> str:
    return json.dumps(checkpoint.fingerprint())


def _fit(anchors: Sequence[Checkpoint]) -> bool:
    import psutil

    found = [original(anchor) for anchor in anchors]
    bases = {_key(a.base): a.base for a in found if isinstance(a, AdapterCheckpoint)}
    plain = [a for a in found if not isinstance(a, AdapterCheckpoint)]
    needed = sum(info.nbytes for a in [*plain, *bases.values()] for info in a.tensors.values())
    return bool(needed < SHARE * psutil.virtual_memory().available)


def _whole(checkpoint: Checkpoint, name: str) -> Bytes:
    info = checkpoint.tensors[name]
    data = np.empty(info.nbytes, np.uint8)
    checkpoint.read(name, 0, info.count, data)
    return data
