"""A checkpoint, or a whole blend, as a module that runs."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from torch.nn import Module

from mergekit_geo.checkpoints.aligned import AlignedCheckpoint
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.memory import MemoryCheckpoint
from mergekit_geo.errors import UnsupportedError
from mergekit_geo.live.blend import InPlace, Live, Reloading, module_names
from mergekit_geo.live.models import load_model
from mergekit_geo.live.settings import Compute
from mergekit_geo.merging.blend import Blend

if TYPE_CHECKING:
    from torch import Tensor


def open_module(checkpoint: Checkpoint, compute: Compute) -> Module:
    """A module of a checkpoint's own, in evaluation mode.

    Args:
        checkpoint: In a folder, or made from a module (which is copied).
        compute: Device and dtype of one that is loaded.

    Raises:
        UnsupportedError: A state dict, of which nothing says what module it belongs to.
        DataError: It does not fit into memory.
    """
    original = _original(checkpoint)
    if isinstance(original, MemoryCheckpoint) and original.module is not None:
        return copy.deepcopy(original.module).eval()
    if original.folder is not None:
        return load_model(original.folder, compute)
    if original.config.get("architectures"):
        assert isinstance(original, MemoryCheckpoint)
        return load_model((original.config, original.state), compute)
    raise UnsupportedError(
        "a state dict alone cannot be run", where=original.name, remedy="give the module itself"
    )


def open_live(blend: Blend, compute: Compute) -> Live:
    """A module that can be put anywhere along paths between a blend's anchors.

    Raises:
        UnsupportedError: Its tensors do not correspond to the module's, and the architecture
            cannot be loaded again either.
        DataError: It does not fit into memory.
    """
    model = open_module(blend.donor, compute)
    names = module_names(model, blend.donor)
    if names is not None:
        return InPlace(model, names)
    if not blend.donor.config.get("architectures"):
        raise UnsupportedError("the module has other tensors than it was read from")
    return Reloading(blend.donor.config, compute)


def load_result(donor: Checkpoint, state: dict[str, Tensor], compute: Compute) -> Module:
    """A merge that stayed in memory, as a module of its donor's kind."""
    original = _original(donor)
    if isinstance(original, MemoryCheckpoint) and original.module is not None:
        model = copy.deepcopy(original.module).eval()
        model.load_state_dict(state, strict=False)
        return model
    return load_model((donor.config, state), compute)


def _original(checkpoint: Checkpoint) -> Checkpoint:
    while isinstance(checkpoint, AlignedCheckpoint):
        checkpoint = checkpoint.checkpoint
    return checkpoint
