"""WUDI (Cheng 2025): the task matrix whose outputs on each task's rows differ least from its own.

The minimum over X of sum_i |(X - t_i) t_iᵀ|² / |t_i|². Its gradient is 2 (X C - D) with
C_i = t_iᵀ t_i / |t_i|², C the sum of the C_i and D that of the t_i C_i.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mergekit_geo.merging.matrices.factors import factors
from mergekit_geo.merging.matrices.solved import Solved

STEPS, LEARNING_RATE = 300, 1e-5
"""Learning rate of Adam, as published."""


def by_adam(tasks: Sequence[Tensor], tick: Callable[[], None]) -> Solved:
    """Go from the sum of the tasks by 300 steps of Adam, as published.

    Args:
        tasks: (m, n) each.
        tick: Called before every step.
    """
    total = torch.stack(list(tasks)).sum(dim=0) if len(tasks) > 1 else tasks[0].clone()
    products, target = _products(tasks)
    point = torch.nn.Parameter(total)
    optimizer = torch.optim.Adam([point], lr=LEARNING_RATE)
    for _ in range(STEPS):
        tick()
        with torch.no_grad():
            point.grad = 2 * (point @ products - target)
        optimizer.step()
    found = point.detach()
    return Solved(found, _residual(found, products, target), "Adam")


def by_least_squares(tasks: Sequence[Tensor], seed: int) -> Solved:
    """The minimum itself, the smallest where it is not unique: D C⁺.

    The rows of all tasks, each task's divided by its norm, stand in one matrix M: C is MᵀM.

    Args:
        tasks: (m, n) each.
        seed: Of random directions, for matrices of few.

    Example:
        >>> task = torch.tensor([[2.0, 4.0], [1.0, 3.0]])
        >>> by_least_squares([task, task], 0).matrix.round(decimals=6).tolist()
        [[2.0, 4.0], [1.0, 3.0]]
    """
    wide = [task.double() for task in tasks]
    scaled = [task / norm for task in wide if (norm := task.norm()) > 0]
    if not scaled:
        return Solved(torch.zeros_like(tasks[0]), 0.0, "least squares")
    found = factors(torch.cat(scaled), seed)
    products, target = _products(wide)
    solution = ((target @ found.v) / found.s**2) @ found.v.T
    return Solved(solution, _residual(solution, products, target), "least squares")


def _products(tasks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """C, (n, n), and D, (m, n); a task that is zero asks for nothing."""
    products = tasks[0].new_zeros(tasks[0].shape[1], tasks[0].shape[1])
    target = torch.zeros_like(tasks[0])
    for task in tasks:
        square = task.square().sum()
        if square > 0:
            own = task.T @ task / square
            products += own
            target += task @ own
    return products, target


def _residual(found: Tensor, products: Tensor, target: Tensor) -> float:
    """|X C - D| / |D|: 0 at the minimum."""
    size = target.norm()
    return float((found @ products - target).norm() / size) if size > 0 else 0.0
