"""Learned soup: coefficients found by gradient (Wortsman 2022, appendix I).

d loss / d coefficient_j = <gradient, a_j>: one ordinary gradient and k streamed inner products,
where the published code holds all models in memory at once. The coefficients of each group of
tensors are a softmax of free numbers, so they stay on the simplex, where a constant in the inner
products does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mergekit_geo.checkpoints.dtypes import bytes_of
from mergekit_geo.checkpoints.header import ITEM_BYTES
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.gram import group_of
from mergekit_geo.merging.kernels import Chunk, Kernel
from mergekit_geo.modules.blend import InPlace

CHUNK = 1 << 18
INSIDE = 0.01
"""Share of the uniform soup where the search starts."""

TensorWeights = dict[str, NDArray[np.float64]]
"""Group of tensors to (k,) coefficients."""


class Space(Protocol):
    """What coefficients are learned: how free numbers give them.

    Shapes: k anchors, n free numbers of each of g groups of tensors.
    """

    def free(self, count: int) -> Tensor:
        """The free numbers of one group where the search starts: (n,), for `count` anchors."""

    def coefficients(self, free_gn: Tensor) -> Tensor:
        """The coefficients: (g, k), a row sums to one."""


@dataclass(frozen=True)
class Simplex:
    """Coefficients that are not negative, by a softmax: those of a soup.

    Attributes:
        start: To start from, one per anchor; equal ones if None. A hundredth of the way to the
            uniform soup is gone at once: coefficients of zero would have no slope.
    """

    start: Sequence[float] | None = None

    def free(self, count: int) -> Tensor:
        """Their logarithms."""
        if self.start is None:
            return torch.zeros(count, dtype=torch.float64)
        inside = (1 - INSIDE) * torch.tensor(self.start, dtype=torch.float64) + INSIDE / count
        return inside.log()

    def coefficients(self, free_gn: Tensor) -> Tensor:
        """The softmax of each row."""
        return torch.softmax(free_gn, dim=1)


@dataclass(frozen=True)
class Descent:
    """How coefficients are learned.

    Attributes:
        granularity: `model`, `layer` or `tensor` share coefficients.
        space: What coefficients there are, and where the search starts.
        steps: Of the optimiser.
        learning_rate: On the free numbers.
        every: The coefficients are looked at after so many steps, and after the last.
    """

    granularity: str = "model"
    space: Space = Simplex()
    steps: int = 50
    learning_rate: float = 0.1
    every: int = 1


@dataclass(frozen=True)
class LearnedSoup:
    """What was found.

    Attributes:
        weights: Coefficients by group.
        losses: Of the batch of each step.
    """

    weights: TensorWeights
    losses: tuple[float, ...]


def learn(
    live: InPlace,
    blend: Blend,
    losses_of: Callable[[int], Iterable[Tensor]],
    how: Descent = Descent(),
    *,
    advance: Callable[[int], None] = lambda step: None,
    look: Callable[[int, TensorWeights], None] = lambda step, weights: None,
) -> LearnedSoup:
    """Minimise a loss over coefficients of a blend's anchors, with Adam.

    Args:
        live: Holds the model; its gradients are used and cleared.
        blend: The anchors.
        losses_of: Differentiable losses of the model on the batches of a step, which are added up;
            each is asked for when the one before is done with.
        how: Where it starts, and how far and in what steps it goes.
        advance: Told of each step.
        look: Given the number of steps that are done and the coefficients after them.
    """
    names = [name for name in blend.donor.tensors if blend.donor.tensors[name].is_float]
    groups = sorted({group_of(name, how.granularity) for name in names})
    free = how.space.free(len(blend.anchors)).repeat(len(groups), 1).requires_grad_()
    optimizer = torch.optim.Adam([free], lr=how.learning_rate)
    losses = []
    for step in range(how.steps):
        weights = _by_group(groups, how.space, free)
        live.put(soup_of(blend, weights, how.granularity))
        losses.append(_backward(live, losses_of, step))
        slopes = _slopes(live, blend, names, how.granularity, groups)
        optimizer.zero_grad()
        how.space.coefficients(free).backward(torch.from_numpy(slopes))  # type: ignore[no-untyped-call]
        optimizer.step()
        advance(1)
        if (step + 1) % how.every == 0 or step + 1 == how.steps:
            look(step + 1, _by_group(groups, how.space, free))
    return LearnedSoup(_by_group(groups, how.space, free), tuple(losses))


def soup_of(blend: Blend, weights: TensorWeights, granularity: str) -> Blend:
    """The blend with the coefficients of each tensor's group; others get the groups' mean."""
    mean = Linear(tuple(np.mean(list(weights.values()), axis=0).tolist()))
    rules = {
        name: Linear(tuple(weights[group].tolist()))
        for name in blend.donor.tensors
        if (group := group_of(name, granularity)) in weights
    }
    return replace(blend, rule=mean, rules=rules)


def _by_group(groups: Sequence[str], space: Space, free: Tensor) -> TensorWeights:
    shares = space.coefficients(free.detach()).numpy()
    return dict(zip(groups, shares, strict=True))


def _backward(live: InPlace, losses_of: Callable[[int], Iterable[Tensor]], step: int) -> float:
    live.model.zero_grad(set_to_none=True)
    total = 0.0
    with torch.enable_grad():
        for loss in losses_of(step):
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
    return total


def _slopes(
    live: InPlace, blend: Blend, names: Sequence[str], granularity: str, groups: Sequence[str]
) -> NDArray[np.float64]:
    """D loss / d coefficient for each group and anchor: (groups, k)."""
    gradients = {
        stored: tensor.grad
        for stored, tensor in live.parameters().items()
        if tensor.grad is not None
    }
    place = {group: index for index, group in enumerate(groups)}
    total = np.zeros((len(groups), len(blend.anchors)))
    wanted = [name for name in names if name in gradients]
    with ThreadPoolExecutor(live.kernel.workers) as pool:
        products = pool.map(
            lambda name: inner_products(blend, name, gradients[name], live.kernel), wanted
        )
        for name, product in zip(wanted, products, strict=True):
            total[place[group_of(name, granularity)]] += product
    live.model.zero_grad(set_to_none=True)
    return total


def inner_products(
    blend: Blend, name: str, gradient: Tensor, kernel: Kernel
) -> NDArray[np.float64]:
    """<gradient, a_j> for every anchor, up to one constant for all: (k,).

    Args:
        blend: The anchors, read a chunk at a time.
        name: Of the tensor.
        gradient: Of its shape.
        kernel: Does the arithmetic, in float64.
    """
    total = np.zeros(len(blend.anchors))
    flat = gradient.detach().reshape(-1)
    infos = blend.infos(name)
    widest = max(ITEM_BYTES[info.dtype] for info in infos)
    row = np.empty(min(CHUNK, len(flat)) * widest, np.uint8)  # one anchor at a time
    for start in range(0, len(flat), CHUNK):
        piece = flat[start : start + CHUNK].float().cpu().contiguous()
        slope, stop = Chunk(bytes_of(piece), "F32"), start + len(piece)
        for j, (anchor, info) in enumerate(zip(blend.anchors, infos, strict=True)):
            data = row[: len(piece) * ITEM_BYTES[info.dtype]]
            anchor.read(name, start, stop, data)
            gram = kernel.gram([slope, Chunk(data, info.dtype)])
            total[j] += gram.differences[0, 1]  # <g, a_j - g>: the constant is |g|^2
    return total
