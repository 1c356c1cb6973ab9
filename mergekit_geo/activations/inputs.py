"""The inputs of linear layers, shown as a module runs, and which layers are given the same one."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import Module

from mergekit_geo.activations.layers import LinearLayer

See = Callable[[LinearLayer, Tensor], None]
"""Told of a layer, and of what goes into it: (..., w)."""


@contextmanager
def inputs_seen(model: Module, layers: Sequence[LinearLayer], see: See) -> Iterator[None]:
    """Context in which the inputs of linear layers are shown, call by call.

    Args:
        model: Runs them.
        layers: Which.
        see: Told of each call, before it.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1))
        >>> with inputs_seen(model, [LinearLayer("0.weight", ("0",), 2)], lambda _, x: print(x)):
        ...     _ = model(torch.ones(1, 2))
        tensor([[1., 1.]])
    """

    def hook(layer: LinearLayer, module: Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        see(layer, args[0] if args else next(iter(kwargs.values())))

    with ExitStack() as hooks:
        for layer in layers:
            for path in layer.modules:
                module, seen = model.get_submodule(path), partial(hook, layer)
                hooks.callback(module.register_forward_pre_hook(seen, with_kwargs=True).remove)
        yield


class Turn:
    """The activation that a layer was given last, so that those given it after that are known."""

    def __init__(self) -> None:
        self._given: Callable[[], Tensor | None] = lambda: None
        self._version, self._weight = 0, ""

    def lead(self, layer: LinearLayer, given: Tensor) -> None:
        """Note that a layer is the first to be given an activation."""
        self._given, self._version = weakref.ref(given), given._version
        self._weight = layer.weight

    def leader(self, given: Tensor) -> str | None:
        """Weight of the layer that was given this very activation, unchanged since then."""
        is_same = self._given() is given and self._version == given._version
        return self._weight if is_same else None


class Probe:
    """What one forward pass shows of linear layers before any is summed up.

    Projections to queries, keys and values are given one activation: they share a Gram matrix.

    Attributes:
        leaders: By weight of each layer that was called, that of the layer whose Gram matrix is its
            own, too; its own name where it shares none.
    """

    def __init__(self) -> None:
        self.leaders: dict[str, str] = {}
        self._turn = Turn()

    def see(self, layer: LinearLayer, given: Tensor) -> None:
        """Note a call; a layer whose calls do not all share an activation shares none."""
        leader = self._turn.leader(given)
        if leader is None:
            self._turn.lead(layer, given)
            leader = layer.weight
        if self.leaders.setdefault(layer.weight, leader) != leader:
            self.leaders[layer.weight] = layer.weight

    def settled(self) -> dict[str, str]:
        """The leaders, each of which leads itself."""
        own = {weight for weight, leader in self.leaders.items() if weight == leader}
        return {w: leader if leader in own else w for w, leader in self.leaders.items()}
