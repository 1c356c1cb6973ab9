"""Block influence: how much each layer changes the hidden states that go through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module, ModuleList, functional

from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.records.influence import InfluenceEntry, LayerInfluence

MOST = 16
"""Examples that are looked at: thousands of tokens, over which the means are stable."""
HIDDEN = 3
"""Dimensions of hidden states: batch, length, width."""


@torch.no_grad()
def block_influence(
    model: Module, objective: TaskObjective, name: str, seed: int
) -> InfluenceEntry:
    """Block influence of every layer (Men et al. 2024, ShortGPT, arXiv 2403.03853).

    1 - E[x·y / (|x| |y|)] over tokens, where x and y are a layer's input and output hidden states,
    in float32. Layers are those of any list of modules that is in no other such list, and that keep
    the shape (1, length, width) of hidden states. Examples run one by one, so that nothing is
    padded, and only sums are kept.

    Args:
        model: In evaluation mode.
        objective: Of its own tokenizer.
        name: What the user calls the model.
        seed: Of the sample, where there are more than 16 examples.
    """
    few = objective.drawn(MOST, seed)
    means = {layer: _Cosine() for layer in blocks_of(model)}
    with ExitStack() as hooks:
        for layer, mean in means.items():
            module = model.get_submodule(layer)
            hooks.enter_context(module.register_forward_hook(mean.see, with_kwargs=True))
        for number in range(min(len(few.kept), MOST)):
            few.losses_of(model, np.array([number]))
    found = {layer: mean for layer, mean in means.items() if mean.count}
    return InfluenceEntry(
        model=name,
        tokens=max((mean.count for mean in found.values()), default=0),
        layers=[
            LayerInfluence(layer=layer, influence=1 - mean.total / mean.count)
            for layer, mean in found.items()
        ],
    )


@dataclass
class _Cosine:
    """A sum of cosines of what goes in and what comes out, over tokens."""

    total: float = 0.0
    count: int = 0

    def see(
        self, module: Module, inputs: tuple[Any, ...], more: Mapping[str, Any], output: Any
    ) -> None:
        """Add the tokens of one forward pass; nothing where the shape changes."""
        before = inputs[0] if inputs else more.get("hidden_states")
        after = output[0] if isinstance(output, tuple) else output
        if not (isinstance(before, Tensor) and isinstance(after, Tensor)):
            return
        if before.ndim != HIDDEN or before.shape != after.shape:
            return
        cosines = functional.cosine_similarity(before.float(), after.float(), dim=-1)
        self.total += float(cosines.double().sum())
        self.count += cosines.numel()


def blocks_of(model: Module) -> Iterator[str]:
    """Names of the modules in outermost lists, in order."""
    lists: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, ModuleList) and not any(name.startswith(f"{n}.") for n in lists):
            lists.append(name)
            yield from (f"{name}.{number}" for number in range(len(module)))
