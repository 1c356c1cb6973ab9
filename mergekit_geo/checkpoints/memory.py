"""A module or a state dict as a checkpoint, without a copy of what lies contiguous."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from accelerate.utils import extract_model_from_parallel
from torch import Tensor
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.dtypes import TensorReader, tensor_infos
from mergekit_geo.errors import ArgumentError


def of_state(state: Mapping[str, Tensor], name: str, config: Config | None = None) -> Checkpoint:
    """A checkpoint of tensors in memory.

    Tied weights (two names, one storage) are listed once, under the first name.

    Args:
        state: Name to tensor.
        name: What the user calls it.
        config: The transformers configuration as a dict, where there is one.

    Raises:
        ArgumentError: Something in it is no tensor.
        UnsupportedError: A tensor's dtype is none that can be merged.

    Example:
        >>> import torch
        >>> of_state({"w": torch.ones(2, 3)}, "a").tensors["w"].shape
        (2, 3)
    """
    _refuse_others(state, name)
    ties = _ties(state)
    reader = TensorReader({key: tensor for key, tensor in state.items() if key not in ties})
    return Checkpoint(
        name=name,
        tensors=tensor_infos(reader.state, name),
        read=reader.read,
        fingerprint=unknown,
        config=config or {},
        ties=ties,
        state=reader.state,
        in_memory=True,
    )


def of_module(module: Module, name: str) -> Checkpoint:
    """The parameters and persistent buffers of a module, by the names it has unwrapped."""
    module = extract_model_from_parallel(module, keep_torch_compile=False)
    config: Any = getattr(module, "config", None)
    as_dict = config.to_dict() if hasattr(config, "to_dict") else None
    if as_dict is not None and not as_dict.get("architectures"):
        as_dict["architectures"] = [type(module).__name__]  # as save_pretrained does
    return replace(of_state(module.state_dict(), name, as_dict), module=module)


def unknown() -> object:
    """A fingerprint that is new at each call: changes of tensors in memory cannot be detected."""
    return uuid.uuid4().hex


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
