"""Logits of the positions that count: the output layer of a model sees no others.

A prompt's tokens, unmasked tokens and padding need no logits, and a row of logits is as long as the
vocabulary. transformers' own `logits_to_keep` keeps the same positions of every row, and not every
architecture has it; here the hidden states of single positions are taken right before the output
layer, which most architectures call once. Whether one does, and does nothing after it that depends
on the position, is tried out on the model itself.

Shapes: b rows, l positions, h features, v classes, n positions that count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    Inputs = Mapping[str, Any]

TOLERANCE = 2e-2
"""How far logits of two runs may differ, as a share of their spread: bfloat16 has 8 bits."""

_MAY_SELECT: WeakKeyDictionary[Module, bool] = WeakKeyDictionary()


@dataclass(frozen=True)
class CountedLogits:
    """Logits, of which those at some places count.

    Attributes:
        values: (m, v) of all positions, or (n, v) of those that count.
        places: (n,) which of them count; None where all do.
    """

    values: Tensor
    places: Tensor | None

    def chunks(self, rows: int) -> Iterator[Tensor]:
        """Logits of so many counted positions at a time; without gradients, no more are copied."""
        if self.places is None:
            yield from torch.split(self.values, rows)
        elif torch.is_grad_enabled():  # a gradient of each chunk would be as large as all
            yield from torch.split(self.values[self.places], rows)
        else:
            yield from (self.values[some] for some in torch.split(self.places, rows))


def counted_logits(model: Module, inputs: Inputs, counted_bl: Tensor) -> CountedLogits:
    """Run a model for the logits of some positions, and have no others where it allows that.

    Args:
        model: In evaluation mode; one that is being trained has all its logits.
        inputs: What it is called with.
        counted_bl: Whether a position counts.
    """
    places = _places(counted_bl)
    if len(places) < counted_bl.numel() and _may_select(model, inputs, counted_bl):
        logits = _selected(model, inputs, counted_bl)
        if logits.shape[:2] == (1, len(places)):
            return CountedLogits(logits[0], None)
    return CountedLogits(model(**inputs).logits.flatten(0, 1), places)


def _places(counted_bl: Tensor) -> Tensor:
    """(n,) indices of the positions that count, in the flattened batch."""
    return counted_bl.flatten().nonzero().squeeze(1)


def _may_select(model: Module, inputs: Inputs, counted_bl: Tensor) -> bool:
    """Whether logits of single positions are those among all, as one row of the batch tells."""
    if model.training or _output_layer(model) is None:
        return False
    if model not in _MAY_SELECT:
        _MAY_SELECT[model] = _same_logits(model, *_first_row(inputs, counted_bl))
    return _MAY_SELECT[model]


def _output_layer(model: Module) -> Module | None:
    found = getattr(model, "get_output_embeddings", lambda: None)()
    return found if isinstance(found, torch.nn.Module) else None


def _first_row(inputs: Inputs, counted_bl: Tensor) -> tuple[Inputs, Tensor]:
    """The first row of a batch; the batch where a tensor is not by row."""
    tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    if any(len(tensor) != len(counted_bl) for tensor in tensors.values()):
        return inputs, counted_bl
    return {**inputs, **{name: tensor[:1] for name, tensor in tensors.items()}}, counted_bl[:1]


@torch.no_grad()
def _same_logits(model: Module, inputs: Inputs, positions_bl: Tensor) -> bool:
    """Whether every other position has the logits that it has among all."""
    counted = torch.zeros_like(positions_bl)
    counted[:, ::2] = True
    expected = model(**inputs).logits[counted]
    try:
        found = _selected(model, inputs, counted)
    except torch.OutOfMemoryError:
        raise
    except (IndexError, RuntimeError, TypeError, ValueError):
        return False
    if found.shape != (1, *expected.shape):
        return False
    wanted = expected.float()
    spread = (wanted - wanted.mean(dim=-1, keepdim=True)).abs().max()
    return bool((found[0].float() - wanted).abs().max() <= TOLERANCE * spread)


def _selected(model: Module, inputs: Inputs, counted_bl: Tensor) -> Tensor:
    """Logits of a model whose output layer sees the counted positions as one row: (1, n, v)."""
    layer = _output_layer(model)
    assert layer is not None
    with _seeing(layer, counted_bl):
        logits: Tensor = model(**inputs).logits
    return logits


@contextmanager
def _seeing(layer: Module, counted_bl: Tensor) -> Iterator[None]:
    """Hidden states (b, l, h) on their way into a layer become (1, n, h)."""
    places = _places(counted_bl)

    def select(_: Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not given or given[0].shape[:2] != counted_bl.shape:
            return None
        hidden = given[0].flatten(0, 1)
        return hidden.index_select(0, places.to(hidden.device))[None], *given[1:]

    handle = layer.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()
