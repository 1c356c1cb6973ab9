"""A module or a state dict as a checkpoint, without a copy of what lies contiguous."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.errors import ArgumentError, UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class MemoryCheckpoint:
    """A checkpoint of tensors in memory.

    Tied weights (two names, one storage) are listed once, under the first name.

    Args:
        state: Name to tensor.
        name: What the user calls it.
        config: The transformers configuration as a dict, where there is one.

    Attributes:
        module: The one that it was made from, if it was.
        like: Another checkpoint of the same tensors, which says what runs them.

    Raises:
        ArgumentError: Something in it is no tensor.
        UnsupportedError: A tensor's dtype is none that can be merged.

    Example:
        >>> import torch
        >>> MemoryCheckpoint({"w": torch.ones(2, 3)}, "a").tensors["w"].shape
        (2, 3)
    """

    folder: Path | None = None
    module: Module | None = None
    like: Checkpoint | None = None
    revision: str | None = None
    is_local = True

    def __init__(self, state: Mapping[str, Tensor], name: str, config: Config | None = None):
        self.name, self.config = name, config or {}
        _refuse_others(state, name)
        self.ties = _ties(state)
        self._state = {
            key: tensor.detach().contiguous()
            for key, tensor in state.items()
            if key not in self.ties
        }
        self.tensors: Mapping[str, TensorInfo] = {
            key: _info(name, key, tensor) for key, tensor in self._state.items()
        }

    @classmethod
    def of_module(cls, module: Module, name: str) -> MemoryCheckpoint:
        """The parameters and persistent buffers of a module, by the names it has unwrapped."""
        from accelerate.utils import extract_model_from_parallel

        module = extract_model_from_parallel(module, keep_torch_compile=False)
        config: Any = getattr(module, "config", None)
        as_dict = config.to_dict() if hasattr(config, "to_dict") else None
        if as_dict is not None and not as_dict.get("architectures"):
            as_dict["architectures"] = [type(module).__name__]  # as save_pretrained does
        found = cls(module.state_dict(), name, as_dict)
        found.module = module
        return found

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The tensors, tied ones once."""
        return self._state

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        """Put elements `start` to `stop` of the flattened tensor into `out`, as they are stored."""
        from mergekit_geo.checkpoints.dtypes import bytes_of

        data = bytes_of(self._state[name].view(-1)[start:stop].cpu())
        out[: len(data)] = data

    def run_like(self, other: Checkpoint | None) -> None:
        """Use the configuration and tokenizer of another checkpoint of the same tensors."""
        if other is not None:
            self.like, self.config = other, other.config

    def fingerprint(self) -> object:
        """A new value at each call: changes of tensors in memory cannot be detected."""
        return uuid.uuid4().hex

    def fetch(self) -> MemoryCheckpoint:
        """Return this object: its data needs no download."""
        return self


def _refuse_others(state: Mapping[str, Tensor], name: str) -> None:
    for key, tensor in state.items():
        if not hasattr(tensor, "data_ptr"):
            raise ArgumentError(
                f"expected a tensor under {key!r}, found a {type(tensor).__name__}",
                where=name,
                remedy="give a flat state dict",
            )


def _ties(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Names whose tensor an earlier name has too, and that name."""
    first: dict[object, str] = {}
    ties = {}
    for key, tensor in state.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.device)
        if tensor.numel() and first.setdefault(place, key) != key:
            ties[key] = first[place]
    return ties


def _info(name: str, key: str, tensor: Tensor) -> TensorInfo:
    from mergekit_geo.checkpoints.dtypes import DTYPE_NAMES

    if tensor.dtype not in DTYPE_NAMES:
        raise UnsupportedError(f"tensor {key!r} is {tensor.dtype}", where=name)
    return TensorInfo(DTYPE_NAMES[tensor.dtype], tuple(tensor.shape))
