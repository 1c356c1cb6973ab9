"""Which positions of an activation are padding, from the attention masks that modules are given.

Shapes: b rows, l positions, h features, n positions that are none of padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

MASK = "attention_mask"
BY_POSITION = 2
"""Dimensions of a mask by position; those of attention have four."""


class Padding:
    """Follows the attention masks (b, l) of the modules that are running.

    Args:
        model: A module whose parts take `attention_mask`.

    Example:
        >>> import torch
        >>> class Part(Module):
        ...     def forward(self, x, attention_mask=None):
        ...         self.seen = padding.rows(x)
        ...         return x
        >>> part = Part()
        >>> padding = Padding(part)
        >>> with padding.followed():
        ...     _ = part(torch.ones(2, 3, 4), attention_mask=torch.tensor([[1, 1, 1], [1, 0, 0]]))
        >>> part.seen.shape
        torch.Size([4, 4])
    """

    def __init__(self, model: Module) -> None:
        self._model = model
        self._masks: list[Tensor | None] = []

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Context in which the masks of the module's calls are known."""
        with ExitStack() as hooks:
            for module in self._model.modules():
                if any(True for _ in module.children()) or module is self._model:
                    enter = module.register_forward_pre_hook(self._enter, with_kwargs=True)
                    leave = module.register_forward_hook(self._leave, always_call=True)
                    hooks.callback(enter.remove)
                    hooks.callback(leave.remove)
            self._masks.clear()
            yield

    def begin(self) -> None:
        """Forget the masks of calls that did not come to their end."""
        self._masks.clear()

    def rows(self, activation: Tensor) -> Tensor:
        """The positions (n, h) of an activation (b, l, h) that are no padding, in order.

        An activation to whose positions no mask belongs, such as (b, h), is (m, h) as it is.
        """
        flat = activation.reshape(-1, activation.shape[-1])
        for mask in reversed(self._masks):
            kept = None if mask is None else spread(mask, activation.shape[:-1])
            if kept is not None:
                kept = kept.to(flat.device, torch.bool)
                return flat if bool(kept.all()) else flat[kept]
        return flat

    def _enter(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask = kwargs.get(MASK)
        by_position = isinstance(mask, Tensor) and mask.ndim == BY_POSITION
        self._masks.append(mask if by_position else None)

    def _leave(self, module: Module, args: tuple[Any, ...], output: Any) -> None:
        if self._masks:
            self._masks.pop()


def spread(mask_bl: Tensor, shape: torch.Size) -> Tensor | None:
    """A mask over all rows of an activation, flattened; None where it is none of its positions.

    Args:
        mask_bl: By position.
        shape: Of the activation, without its features: (b, l, ...), (b, ..., l) or (b l,).

    Example:
        >>> spread(torch.tensor([[1, 0]]), torch.Size([1, 2, 2])).tolist()
        [1, 1, 0, 0]
        >>> spread(torch.tensor([[1, 0]]), torch.Size([1, 3, 2])).tolist()
        [1, 0, 1, 0, 1, 0]
    """
    rows, length = mask_bl.shape
    if tuple(shape) == (rows * length,):
        return mask_bl.reshape(-1)
    if len(shape) < BY_POSITION or shape[0] != rows or length not in {shape[1], shape[-1]}:
        return None
    between = [1] * (len(shape) - BY_POSITION)
    placed = [length, *between] if shape[1] == length else [*between, length]
    return mask_bl.reshape(rows, *placed).expand(shape).reshape(-1)
