"""A checkpoint, or a whole blend, as a module that runs."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.sources import original
from mergekit_geo.checkpoints.unchanged import unchanged
from mergekit_geo.config.measures import Compute
from mergekit_geo.errors import UnsupportedError
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.memo import Memo
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.stream import stream
from mergekit_geo.modules.blend import InPlace, Live, Reloading, module_names
from mergekit_geo.modules.load import load_model


def open_module(checkpoint: Checkpoint, compute: Compute) -> Module:
    """A module of a checkpoint's own, in evaluation mode.

    Args:
        checkpoint: In a folder, or made from a module (which is copied). With an adapter, the
            base is loaded and the sums are streamed into it.
        compute: Device and dtype of one that is loaded.

    Raises:
        UnsupportedError: A state dict alone, of which nothing says what module it belongs to.
        DataError: It does not fit into memory.
    """
    found = original(checkpoint)
    if checkpoint.reshaped:
        return _of_tensors(checkpoint, compute)
    if found.adapted is not None:
        blend = Blend((found,), Linear((1.0,)))
        live = open_live(blend, compute)
        live.put(blend)
        return live.model
    if found.module is not None:
        return _copy_of(found.module)
    if found.folder is not None:
        with unchanged([found]):
            odd = found.renamed
            return _of_tensors(found, compute) if odd else load_model(found.folder, compute)
    if found.like is not None:
        state = _streamed(found) if found.state is None else dict(found.state)
        return load_result(found, state, compute)
    if found.config.get("architectures"):
        assert found.state is not None
        return load_model((found.config, found.state), compute)
    raise UnsupportedError(
        "tensors without a configuration cannot be run",
        where=found.name,
        remedy="give the module or the folder of the model, or beside them one of the same tensors",
    )


def at_least_single(module: Module) -> Module:
    """A module in float32, or as it is where all of its weights are in float64.

    Example:
        >>> import torch
        >>> [at_least_single(torch.nn.Linear(1, 1).to(dtype)).weight.dtype
        ...  for dtype in (torch.bfloat16, torch.float64)]
        [torch.float32, torch.float64]
    """
    is_double = all(parameter.dtype == torch.float64 for parameter in module.parameters())
    return module if is_double else module.float()


def open_live(blend: Blend, compute: Compute, anchors: Sequence[Checkpoint] = ()) -> Live:
    """A module that can be put anywhere along paths between a blend's anchors.

    Args:
        blend: The first one.
        compute: Device and dtype.
        anchors: Checkpoints that are merged again and again and do not change: what one put finds
            of their tensors is kept for the next, such as masks.

    Raises:
        UnsupportedError: Its tensors do not correspond to the module's, and the architecture
            cannot be loaded again either.
        DataError: It does not fit into memory.
    """
    donor = original(blend.donor)
    base = donor if donor.adapted is None else donor.adapted.base
    model = open_module(blend.donor if blend.donor.reshaped else base, compute)
    names = module_names(model, blend.donor)
    if names is not None:
        return InPlace(model, names, memo=Memo(anchors))
    if not blend.donor.config.get("architectures"):
        raise UnsupportedError("the module has other tensors than it was read from")
    return Reloading(blend.donor.config, compute, blend.donor.folder, Memo(anchors))


def load_result(donor: Checkpoint, state: dict[str, Tensor], compute: Compute) -> Module:
    """A merge that stayed in memory, as a module of its donor's kind."""
    if donor.reshaped:
        return load_model((donor.config, state), compute, donor.folder)
    found = original(donor)
    if found.like is not None:
        found = original(found.like)
    if found.module is not None:
        model = _copy_of(found.module)
        model.load_state_dict(state, strict=False)
        return model
    return load_model((found.config, state), compute, found.folder)


def _of_tensors(checkpoint: Checkpoint, compute: Compute) -> Module:
    """A module of tensors that do not lie in the folder as they are read."""
    return load_model((checkpoint.config, _streamed(checkpoint)), compute, checkpoint.folder)


def _streamed(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """All tensors, read into memory."""
    blend = Blend((checkpoint,), Linear((1.0,)))
    sink = MemorySink(blend)
    stream(blend, sink, allow_nonfinite=True)
    return sink.state


def _copy_of(module: Module) -> Module:
    """Copy a module in evaluation mode, without the autocast wrapper of accelerate."""
    found: Module = extract_model_from_parallel(copy.deepcopy(module), keep_fp32_wrapper=False)
    return found.eval()
