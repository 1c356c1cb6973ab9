"""A module that stands wherever in weight space it is put: no disk, no second copy.

What is put there is what would be written: rounded to the output dtype first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.dtypes import TORCH_DTYPES
from mergekit_geo.checkpoints.headless import unused_in
from mergekit_geo.checkpoints.naming import schema_of
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.checkpoints.sources import original
from mergekit_geo.config.measures import Compute
from mergekit_geo.errors import UnsupportedError
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.kernels import Kernel
from mergekit_geo.merging.memo import Memo
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.native import kernel_for
from mergekit_geo.merging.stream import stream
from mergekit_geo.modules.beside import keep_beside, merged_beside
from mergekit_geo.modules.load import load_model


class Live(Protocol):
    """A module whose weights follow a blend."""

    @property
    def model(self) -> Module:
        """The module, as it was last put."""

    def put(self, blend: Blend) -> None:
        """Give the module the weights of a blend.

        Raises:
            AntipodalError: The rule has no answer for some tensor.
        """


class InPlace:
    """Writes every merged chunk straight into the module's parameters and buffers.

    Args:
        model: Any module.
        names: Stored name to the module's name, from `module_names`.
        kernel: Does the arithmetic.
        memo: Keeps what one put finds of the anchors for the next.
    """

    def __init__(
        self,
        model: Module,
        names: Mapping[str, str],
        kernel: Kernel | None = None,
        memo: Memo | None = None,
    ) -> None:
        self.model, self.names, self.memo = model, names, memo
        self.kernel = kernel or kernel_for("cpu")
        state = tensors_of(model)
        self._targets = {stored: state[name].view(-1) for stored, name in names.items()}

    def parameters(self) -> dict[str, Parameter]:
        """Stored name to the module's own parameter."""
        own = dict(self.model.named_parameters(remove_duplicate=False))
        return {stored: own[name] for stored, name in self.names.items() if name in own}

    def put(self, blend: Blend, only: Collection[str] | None = None) -> None:
        """Give the module the weights of a blend; all of them, or those of these stored names."""
        sink = _Targets(blend, self._targets)
        skip = () if only is None else blend.outputs().keys() - set(only)
        stream(blend, sink, skip=skip, kernel=self.kernel, allow_nonfinite=True, memo=self.memo)
        keep_beside(self.model, merged_beside(blend))


class Reloading:
    """Makes a new module for every blend, where disk and memory names differ (fused experts).

    Args:
        config: Of the architecture.
        compute: Device and dtype.
        code: Folder with the architecture's code, where it brings some.
        memo: Keeps what one put finds of the anchors for the next.
    """

    def __init__(
        self, config: Config, compute: Compute, code: Path | None = None, memo: Memo | None = None
    ) -> None:
        self.config, self.compute, self.code, self.memo = config, compute, code, memo
        self._model: Module | None = None

    @property
    def model(self) -> Module:
        """The module that was made last."""
        assert self._model is not None, "put() a blend first"
        return self._model

    def put(self, blend: Blend) -> None:
        """Load the merged tensors through the architecture's class."""
        self._model = None
        sink = MemorySink(blend)
        stream(blend, sink, allow_nonfinite=True, memo=self.memo)
        self._model = load_model((self.config, sink.state), self.compute, self.code)
        keep_beside(self._model, merged_beside(blend))


class _Targets:
    """The sink of a stream into a module."""

    def __init__(self, blend: Blend, targets: Mapping[str, Tensor]) -> None:
        self.targets = targets
        self.dtypes = {name: TORCH_DTYPES[info.dtype] for name, info in blend.outputs().items()}

    def write(self, name: str, position: int, data: Bytes) -> None:
        if name not in self.targets:
            return
        values = torch.from_numpy(data).view(self.dtypes[name])
        start = position // values.element_size()
        self.targets[name][start : start + len(values)].copy_(values)


def tensors_of(model: Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, contiguous, sharing the module's memory."""
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()
    return model.state_dict()


def in_place(live: Live, why: str, model: str, remedy: str) -> InPlace:
    """A module whose parameters are the tensors that are stored.

    Args:
        live: Any.
        why: What needs such a module, as the second half of a sentence.
        model: Its name.
        remedy: What does not need one.

    Raises:
        UnsupportedError: It is another, as with fused experts.
    """
    if isinstance(live, InPlace):
        return live
    raise not_as_stored(why, model, remedy)


def not_as_stored(why: str, model: str, remedy: str) -> UnsupportedError:
    """The error where a module's tensors are not those that are stored, and have to be.

    Args:
        why: What needs them to be, as the second half of a sentence.
        model: Its name.
        remedy: What does not need it.
    """
    return UnsupportedError(
        f"the module's tensors are not those that are stored, and {why}", where=model, remedy=remedy
    )


def module_names(model: Module, checkpoint: Checkpoint) -> dict[str, str] | None:
    """Stored name to the module's name, for every tensor; None where they do not correspond.

    Args:
        model: A module of the checkpoint's architecture.
        checkpoint: Whose tensors it is to hold.
    """
    state = model.state_dict()
    names = _renamed(state, checkpoint)
    shapes = all(
        own in state and tuple(state[own].shape) == checkpoint.tensors[stored].shape
        for stored, own in names.items()
    )
    held = {state[own].data_ptr() for own in names.values() if own in state}
    unused = unused_in(original(checkpoint).folder)
    missing = [
        name
        for name, t in state.items()
        if t.numel() and t.data_ptr() not in held and not name.startswith(unused)
    ]
    return names if shapes and not missing else None


def _renamed(state: Mapping[str, Any], checkpoint: Checkpoint) -> dict[str, str]:
    stored = list(checkpoint.tensors)
    if all(name in state for name in stored):
        return {name: name for name in stored}
    schema = schema_of(checkpoint.config)
    names = {name: schema.canonical(name) for name in stored}
    return {
        s: name for s, name in names.items() if name in state or not schema.is_superfluous(name)
    }
