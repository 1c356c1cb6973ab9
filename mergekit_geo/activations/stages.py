"""The order in which a module runs its blocks, and the linear layers of each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Module

from mergekit_geo.activations.inputs import inputs_seen
from mergekit_geo.activations.layers import LinearLayer
from mergekit_geo.evaluation.block_influence import blocks_of

if TYPE_CHECKING:
    Run = Callable[[Module], Any]


@dataclass(frozen=True)
class Stage:
    """A block of a module, and the linear layers that are first called before it ends.

    Attributes:
        layers: The linear layers: those of the block, and any that run between it and the block
            before.
        block: Name of the block; empty for what runs after the last.
        ends: How often the block has ended when all of its calls have been.
    """

    layers: tuple[LinearLayer, ...]
    block: str = ""
    ends: int = 0


class _EndedError(Exception):
    """What comes after a block is not wanted."""


@torch.no_grad()
def stages_of(model: Module, layers: Sequence[LinearLayer], run: Run) -> tuple[Stage, ...]:
    """The stages of a forward pass, in the order in which they run.

    Blocks are the modules of any list of modules that is in no other such list, as the layers of a
    transformer are; in a module without such lists every linear layer is one.

    Args:
        model: In evaluation mode.
        layers: Its linear layers.
        run: The forward pass.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
        >>> layers = [LinearLayer(f"{i}.weight", (f"{i}",), 2 + i) for i in range(2)]
        >>> [(s.block, len(s.layers)) for s in stages_of(model, layers, lambda m: m(torch.ones(2)))]
        [('0', 1), ('1', 1)]
    """
    blocks = list(blocks_of(model)) or [path for layer in layers for path in layer.modules]
    ended: list[str] = []
    first: dict[str, int] = {}

    def see(layer: LinearLayer, given: object) -> None:
        first.setdefault(layer.weight, len(dict.fromkeys(ended)))

    with _ends_told(model, blocks, ended.append), inputs_seen(model, layers, see):
        run(model)
    order, counts = list(dict.fromkeys(ended)), Counter(ended)
    found = defaultdict(list)
    for layer in layers:
        if layer.weight in first:
            found[first[layer.weight]].append(layer)
    named = [Stage(tuple(found[i]), block, counts[block]) for i, block in enumerate(order)]
    return tuple(stage for stage in [*named, Stage(tuple(found[len(order)]))] if stage.layers)


def run_until(model: Module, stage: Stage, run: Run) -> None:
    """Run a module until a stage has ended."""
    left = stage.ends

    def end(block: str) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise _EndedError

    if not stage.block:
        run(model)
        return
    with _ends_told(model, [stage.block], end):
        try:
            run(model)
        except _EndedError:
            return


@contextmanager
def _ends_told(
    model: Module, blocks: Sequence[str], told: Callable[[str], object]
) -> Iterator[None]:
    """Context in which the end of every call of a block is told."""

    def hook(block: str, module: Module, args: Any, output: Any) -> None:
        told(block)

    with ExitStack() as hooks:
        for block in blocks:
            module = model.get_submodule(block)
            hooks.callback(module.register_forward_hook(partial(hook, block)).remove)
        yield
