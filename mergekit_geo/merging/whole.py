"""Rules that see a matrix whole: what they are, and the memory that one tensor takes.

Unlike rules by elements or rows these cannot be streamed, since singular vectors and products of
matrices need all of a tensor: one such tensor at a time is read, made and written, whatever the
number of workers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.parts import EMBEDDINGS_NAME, HEAD_NAME, NUMBERED
from mergekit_geo.errors import DataError
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Coefficients, ModelWeights, Rule
from mergekit_geo.printable import in_gigabytes

if TYPE_CHECKING:
    from torch import Tensor

    from mergekit_geo.merging.blend import Blend

TURN = threading.Lock()
"""Held by the worker whose tensor is in memory."""

LOOKED_UP = "relative_attention_bias"
"""Tables inside layers whose rows are looked up by distance (T5)."""

MATRIX = 2


@dataclass(frozen=True)
class Made:
    """A merged tensor.

    Attributes:
        values: Of its shape, in float32 or float64, on any device.
        branch: What the record calls it.
        error: Relative error of what was factorised or solved; None where nothing was.
    """

    values: Tensor
    branch: str
    error: float | None = None


def no_tick() -> None:
    """Do nothing between two steps."""


class Whole:
    """A rule that sees 2-D tensors whole, and leaves all others to another rule."""

    name: str
    needs_gram = False
    passes = 2
    """Counted for progress: read and written."""
    outputs_first = False
    """Whether matrices are seen (out, in) where they are stored (in, out), as GPT-2's are."""

    @property
    def weights(self) -> ModelWeights:
        """Weights of the anchors, the base first where there is one, as of a mean of the same."""
        raise NotImplementedError

    @property
    def others(self) -> Rule:
        """Rule of the tensors that it does not take."""
        raise NotImplementedError

    def takes(self, name: str, info: TensorInfo) -> bool:
        """Whether it makes this tensor: by default, whether it is of a linear layer."""
        return is_linear_layer(name, info)

    def memory(self, shape: tuple[int, ...], count: int) -> int:
        """Bytes that one tensor of `count` anchors takes at most."""
        raise NotImplementedError

    def make(
        self, name: str, tensors: Sequence[Tensor], device: str, tick: Callable[[], None] = no_tick
    ) -> Made:
        """Merge one tensor.

        Args:
            name: Of the tensor.
            tensors: The anchors', the base first where there is one, in float32 (of halves) or
                float64, on the device; they may be overwritten.
            device: As torch names it.
            tick: To be called now and then in long work: it raises where nobody wants the result.
        """
        raise NotImplementedError

    @property
    def convex(self) -> ModelWeights:
        """The weights' positive parts, normalised."""
        return Linear(self.weights).convex

    def coefficients(self, gram: Gram | None) -> Coefficients:
        """Coefficients of the mean of the same weights, for the report."""
        return Coefficients(self.weights, self.name)


def is_linear_layer(name: str, info: TensorInfo) -> bool:
    """Whether a tensor is the weight of a linear layer: a matrix, but of embeddings and heads.

    Example:
        >>> info = TensorInfo("BF16", (8, 4))
        >>> [is_linear_layer(name, info) for name in ("model.layers.0.mlp.up_proj.weight",
        ...     "model.embed_tokens.weight", "lm_head.weight")]
        [True, False, False]
    """
    if len(info.shape) != MATRIX or min(info.shape) < MATRIX:
        return False
    if NUMBERED.search(name):
        return LOOKED_UP not in name
    return not (EMBEDDINGS_NAME.search(name) or HEAD_NAME.search(name))


@dataclass(frozen=True)
class Need:
    """Memory of the tensor that takes most.

    Attributes:
        tensor: Its name.
        shape: Its shape.
        nbytes: Bytes while it is merged.
    """

    tensor: str
    shape: tuple[int, ...]
    nbytes: int

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        return f"{self.tensor} ({size}) is merged whole, in {in_gigabytes(self.nbytes)} of memory"


def largest_need(blend: Blend) -> Need | None:
    """The memory that the largest of the tensors needs that are merged whole; None without any."""
    found = [
        Need(name, info.shape, rule.memory(info.shape, len(blend.anchors_of(name))))
        for name, info in blend.outputs().items()
        if isinstance(rule := blend.rule_for(name), Whole)
    ]
    return max(found, key=lambda need: need.nbytes, default=None)


def check_memory(blend: Blend, device: str = "cpu") -> Need | None:
    """Refuse tensors that are merged whole and do not fit into memory.

    Args:
        blend: What will be merged.
        device: Where the work is done.

    Returns:
        What the largest of them needs; None where none is merged whole.

    Raises:
        DataError: With the tensor, what it needs, and what is free.
    """
    need = largest_need(blend)
    if need is None:
        return None
    free = free_memory(device)
    if need.nbytes > free:
        where = "" if device == "cpu" else f" on {device}"
        raise DataError(
            f"a tensor of {' x '.join(map(str, need.shape))} is merged whole, which takes "
            f"{in_gigabytes(need.nbytes)} of memory, and {in_gigabytes(free)} are free{where}",
            where=f"tensor {need.tensor}",
            remedy="merge on a larger machine or --device, or by task_arithmetic or ties, which "
            "take tensors a chunk at a time",
        )
    return need


def free_memory(device: str) -> int:
    """Bytes that are free on a device, or in memory."""
    if not device.startswith("cuda"):
        return int(psutil.virtual_memory().available)
    import torch

    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + kept)
