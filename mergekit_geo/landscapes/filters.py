"""What a filter is, tensor by tensor: the weights of one neuron, channel or token.

Directions are normalised filter by filter (Li 2018, section 4). For transformers no standard
exists; here a filter is a row of a linear layer, a column where the layer stores (in, out), the row
of a token in an embedding, an output channel of a convolution, and a row of each expert. Norms and
biases have none and stay where they are, as buffers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from torch.nn import GroupNorm, LayerNorm, Module
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from transformers.pytorch_utils import Conv1D

from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.tasks.losses import Indices

MATRIX, CONVOLUTION = 2, 4
"""Fewest axes of a weight, and of one whose every axis but the first belongs to a filter."""


@dataclass(frozen=True)
class Filters:
    """A tensor seen as (groups, summed, count, inner): a filter for each group and count.

    Attributes:
        groups: Such as experts that are stored (in, out).
        summed: Elements of a filter that lie apart.
        count: Filters of a group.
        inner: Elements of a filter that lie together.

    Example:
        >>> Filters.rows(2, 3).numbers(0, 6).tolist(), Filters.columns(3, 2).numbers(0, 6).tolist()
        ([0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 0, 1])
    """

    groups: int
    summed: int
    count: int
    inner: int

    @classmethod
    def rows(cls, count: int, inner: int) -> Filters:
        """Filters that follow each other."""
        return cls(1, 1, count, inner)

    @classmethod
    def columns(cls, summed: int, count: int, groups: int = 1, inner: int = 1) -> Filters:
        """Filters of weights that are stored (in, out)."""
        return cls(groups, summed, count, inner)

    @property
    def total(self) -> int:
        """Number of filters."""
        return self.groups * self.count

    def numbers(self, start: int, stop: int) -> Indices:
        """The filter that each element of the flattened tensor from `start` to `stop` is of."""
        outer = np.arange(start, stop) // self.inner
        group = outer // (self.count * self.summed)
        return np.asarray(outer % self.count + group * self.count)


def filters_of(
    model: Module, names: Mapping[str, str], tensors: Mapping[str, TensorInfo]
) -> dict[str, Filters]:
    """The filters of every stored tensor that has some.

    Args:
        model: Of the architecture.
        names: Stored name to the module's name; a tensor that is not in it, such as one of the
            experts that the module holds fused, is judged by its shape.
        tensors: What is stored.
    """
    owners = dict(model.named_modules(remove_duplicate=False))
    buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    found = {}
    for stored, info in tensors.items():
        own = names.get(stored, stored)
        path, _, leaf = own.rpartition(".")
        fixed = own in buffers or leaf.endswith("bias") or not info.is_float
        if not fixed and len(info.shape) >= MATRIX:
            found[stored] = _filters(owners.get(path), info.shape)
    return {stored: filters for stored, filters in found.items() if filters is not None}


def _filters(owner: Module | None, shape: tuple[int, ...]) -> Filters | None:
    if isinstance(owner, LayerNorm | GroupNorm | _BatchNorm):
        return None
    if isinstance(owner, Conv1D):
        return Filters.columns(*shape)
    if isinstance(owner, _ConvTransposeNd):
        groups = owner.groups
        return Filters.columns(shape[0] // groups, shape[1], groups, prod(shape[2:]))
    if isinstance(owner, _ConvNd) or len(shape) >= CONVOLUTION:
        return Filters.rows(shape[0], prod(shape[1:]))
    if getattr(owner, "is_transposed", False):  # fused experts of (in, out)
        return Filters.columns(prod(shape[1:-1]), shape[-1], prod(shape[:-2]))
    return Filters.rows(prod(shape[:-1]), shape[-1])
