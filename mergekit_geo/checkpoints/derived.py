"""Checkpoints made of another: under other tensor names, or with other values."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.configuration import without_ties
from mergekit_geo.checkpoints.reading import Bytes

if TYPE_CHECKING:
    from torch import Tensor


def renamed(
    checkpoint: Checkpoint, stored: Mapping[str, str], *, untied: bool = False
) -> Checkpoint:
    """A view of a checkpoint in which each tensor bears the donor's name.

    Args:
        checkpoint: Where the tensors are.
        stored: The donor's name to the name in `checkpoint`.
        untied: Whether tensors that its configuration ties are read one by one all the same; its
            configuration then ties none.
    """

    def read(name: str, start: int, stop: int, out: Bytes) -> None:
        checkpoint.read(stored[name], start, stop, out)

    return Checkpoint(
        name=checkpoint.name,
        tensors={name: checkpoint.tensors[own] for name, own in stored.items()},
        read=read,
        fingerprint=lambda: [
            checkpoint.fingerprint(),
            sorted(stored.items()),
            *["untied"] * untied,
        ],
        config=without_ties(checkpoint.config) if untied else checkpoint.config,
        folder=checkpoint.folder,
        revision=checkpoint.revision,
        ties={} if untied else checkpoint.ties,
        stamps=checkpoint.stamps,
        is_local=checkpoint.is_local,
        fetched=lambda _: renamed(checkpoint.fetch(), stored, untied=untied),
        of=checkpoint,
        inside=checkpoint.inside,
        stored=stored,
        reshaped=untied or checkpoint.reshaped,
        frame=checkpoint.frame,
        copied=frozenset(name for name, own in stored.items() if own in checkpoint.copied),
        within=checkpoint.within,
    )


def overlay(checkpoint: Checkpoint, state: Mapping[str, Tensor], name: str) -> Checkpoint:
    """What a checkpoint became: its names, order and side files, with other values.

    Args:
        checkpoint: Below.
        state: Tensors by stored name, on the CPU, of the same shapes.
        name: What it is called.
    """
    from mergekit_geo.checkpoints.dtypes import TensorReader, tensor_infos  # loads torch

    above, infos = TensorReader(state), tensor_infos(state, name)

    def read(key: str, start: int, stop: int, out: Bytes) -> None:
        (above if key in infos else checkpoint).read(key, start, stop, out)

    return Checkpoint(
        name=name,
        tensors={key: infos.get(key, info) for key, info in checkpoint.tensors.items()},
        read=read,
        fingerprint=lambda: [checkpoint.fingerprint(), uuid.uuid4().hex],
        config=checkpoint.config,
        folder=checkpoint.folder,
        stamps=checkpoint.stamps,
        of=checkpoint,
        inside=checkpoint.inside,
        state=state,
    )
