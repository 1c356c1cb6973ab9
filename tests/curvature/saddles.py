"""Networks small enough to diagonalise, and their critical points, found without our own code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian

Pair = tuple[Tensor, Tensor]


def squared_error(model: nn.Module, batch: Pair) -> Tensor:
    """Half the squared error of every example."""
    inputs, targets = batch
    return (model(inputs) - targets).square().sum(1) / 2


def linear_network(widths: Sequence[int], dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Linear layers one after another, all weights 0."""
    layers = [nn.Linear(a, b, bias=False, dtype=dtype) for a, b in pairwise(widths)]
    for layer in layers:
        nn.init.zeros_(layer.weight)
    return nn.Sequential(*layers)


def linear_data(seed: int, dtype: torch.dtype = torch.float64) -> Pair:
    """Inputs and what a random matrix makes of them."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(24, 4, generator=draw, dtype=dtype)
    return inputs, inputs @ torch.randn(4, 3, generator=draw, dtype=dtype)


def tanh_network() -> nn.Sequential:
    """13 parameters."""
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()


def tanh_data(seed: int) -> Pair:
    """Inputs and targets that three units do not fit."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(24, 2, generator=draw, dtype=torch.float64)
    targets = (2 * inputs[:, :1] * inputs[:, 1:]).sin() + 0.5 * inputs[:, :1]
    return inputs, targets


def flat_loss(model: nn.Module, batch: Pair) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The mean loss as a function of one vector, and where the model stands."""
    names, shapes = zip(*((n, p.shape) for n, p in model.named_parameters()), strict=True)
    sizes = [shape.numel() for shape in shapes]

    def loss(flat: Tensor) -> Tensor:
        parts = zip(names, shapes, flat.split(sizes), strict=True)
        own = {name: part.view(shape) for name, shape, part in parts}
        found = functional_call(model, own, batch[0])
        return (found - batch[1]).square().sum(1).mean() / 2

    return loss, nn.utils.parameters_to_vector(model.parameters()).detach()


def damped_newton(
    loss: Callable[[Tensor], Tensor], at: Tensor, bound: float = 1e-10, steps: int = 200
) -> Tensor | None:
    """A critical point near a place: Levenberg-Marquardt on the gradient; None if none is found.

    Args:
        loss: L.
        at: (n,) where to begin.
        bound: Of the gradient's norm.
        steps: At most.
    """
    slope, curvature, damping = grad(loss), hessian(loss), 1e-2
    g = slope(at)
    for _ in range(steps):
        if float(g.norm()) < bound:
            return at
        h = curvature(at)
        step = torch.linalg.solve(h @ h + damping * torch.eye(len(at), dtype=at.dtype), h @ g)
        there = slope(at - step)
        if float(there.norm()) < float(g.norm()):
            at, g, damping = at - step, there, max(damping / 5, 1e-14)
        else:
            damping *= 4
        if damping > 1e6:
            return None
    return None


def tanh_saddle(seed: int) -> tuple[nn.Sequential, Pair, Tensor]:
    """A network at a saddle that damped Newton has found, its data, and all its eigenvalues.

    Starts are drawn until the critical point has a clearly negative eigenvalue.
    """
    model, batch = tanh_network(), tanh_data(seed)
    loss, _ = flat_loss(model, batch)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(60):
        start = torch.randn(13, generator=draw, dtype=torch.float64)
        found = damped_newton(loss, start)
        if found is not None and float(found.norm()) < 20:
            eigenvalues = torch.linalg.eigvalsh(hessian(loss)(found))
            if eigenvalues[0] < -1e-2 * eigenvalues[-1]:
                nn.utils.vector_to_parameters(found, model.parameters())
                return model, batch, eigenvalues
    raise AssertionError("no saddle was found")
