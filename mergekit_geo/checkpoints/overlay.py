"""A checkpoint in which tensors from memory stand in the place of some of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.memory import MemoryCheckpoint
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.checkpoints.unchanged import Stamp, stamps_of

if TYPE_CHECKING:
    from torch import Tensor


class Overlay:
    """What a checkpoint became: its names, order and companions, with other values.

    Args:
        checkpoint: Below.
        state: Tensors by stored name, on the CPU, of the same shapes.
        name: What it is called.
    """

    is_local = True
    revision: str | None = None
    ties: Mapping[str, str] = {}

    def __init__(self, checkpoint: Checkpoint, state: Mapping[str, Tensor], name: str) -> None:
        self.checkpoint, self.state, self.name = checkpoint, state, name
        self._above = {key: MemoryCheckpoint({key: t}, name) for key, t in state.items()}
        self.tensors: Mapping[str, TensorInfo] = {
            key: self._of(key).tensors[key] for key in checkpoint.tensors
        }

    @property
    def config(self) -> Config:
        """Configuration of the checkpoint below."""
        return self.checkpoint.config

    @property
    def folder(self) -> Path | None:
        """Where its configuration and tokenizer lie."""
        return self.checkpoint.folder

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """Stamps of the files that it is read from."""
        return stamps_of(self.checkpoint)

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        """Put elements `start` to `stop` of the flattened tensor into `out`, as they are stored."""
        self._of(name).read(name, start, stop, out)

    def fingerprint(self) -> object:
        """A new value at each call: changes of tensors in memory cannot be detected."""
        return [self.checkpoint.fingerprint(), MemoryCheckpoint({}, self.name).fingerprint()]

    def fetch(self) -> Overlay:
        """Return this object: its data needs no download."""
        return self

    def _of(self, name: str) -> Checkpoint:
        return self._above.get(name, self.checkpoint)
