"""Task singular vectors (Gargiulo 2025), and isotropic spectra (Marczak 2025).

T tasks, each with a matrix (m, n); k = min(m, n).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from mergekit_geo.merging.matrices.factors import Factors, factors, polar
from mergekit_geo.merging.matrices.solved import Solved

LOW = "low rank"


def task_singular_vectors(tasks: Sequence[Tensor], seed: int, tick: Callable[[], None]) -> Solved:
    """Each task's first k / T singular triplets, their vectors made orthogonal to each other.

    Args:
        tasks: (m, n) each.
        seed: Of random directions, for matrices of few.
        tick: Called between two factorisations.

    Example:
        >>> task = torch.tensor([[2.0, 4.0], [1.0, 3.0]])
        >>> task_singular_vectors([task], 0, lambda: None).matrix.round(decimals=6).tolist()
        [[2.0, 4.0], [1.0, 3.0]]
    """
    count = max(1, min(tasks[0].shape) // len(tasks))
    found = [factors(task, seed).first(count) for task in _ticking(tasks, tick)]
    u, s, v, error = _decorrelated(found)
    return Solved((u * s) @ v.T, error, _how(found))


def isotropic(tasks: Sequence[Tensor], seed: int) -> Solved:
    """The sum's polar factor times its mean singular value (Iso-C).

    Args:
        tasks: (m, n) each.
        seed: Of random directions, for matrices of few.

    Example:
        >>> isotropic([torch.tensor([[3.0, 0.0], [0.0, 1.0]])], 0).matrix.tolist()
        [[2.0, 0.0], [0.0, 2.0]]
    """
    found = factors(_sum(tasks), seed)
    size = found.s.mean() if len(found.s) else 0.0
    return Solved(size * found.polar, found.error, _how([found]))


def isotropic_with_tasks(
    tasks: Sequence[Tensor], common: float, seed: int, tick: Callable[[], None]
) -> Solved:
    """The sum's first directions, then each task's own beside these, all of one size (Iso-CTS).

    Args:
        tasks: (m, n) each.
        common: Share of the directions that are the sum's; rounded so that the others can be
            shared out.
        seed: Of random directions, for matrices of few.
        tick: Called between two factorisations.
    """
    shared, own = directions(min(tasks[0].shape), len(tasks), common)
    top = factors(_sum(tasks), seed).first(shared)
    rest = (task.double() - top.u @ (top.u.T @ task.double()) for task in _ticking(tasks, tick))
    found = [*(factors(each, seed).first(own) for each in rest), top]
    u, s, v, error = _decorrelated(found)
    size = s.mean() if len(s) else 0.0
    return Solved(size * (u @ v.T), error, _how(found))


def directions(count: int, tasks: int, common: float) -> tuple[int, int]:
    """How many are the sum's, and how many are each task's own.

    >>> directions(64, 3, 0.8)
    (52, 4)
    """
    own = round((count - int(count * common)) / tasks)
    return count - own * tasks, own


def _decorrelated(found: Sequence[Factors]) -> tuple[Tensor, Tensor, Tensor, float]:
    """Vectors of all, each side replaced by its polar factor, the singular values, the error."""
    u, u_error = polar(torch.cat([each.u for each in found], dim=1))
    v, v_error = polar(torch.cat([each.v for each in found], dim=1))
    error = max(u_error, v_error, *(each.error for each in found))
    return u, torch.cat([each.s for each in found]), v, error


def _sum(tasks: Sequence[Tensor]) -> Tensor:
    total = tasks[0].double()
    for task in tasks[1:]:
        total = total + task
    return total


def _ticking(tasks: Sequence[Tensor], tick: Callable[[], None]) -> Iterator[Tensor]:
    for task in tasks:
        tick()
        yield task


def _how(found: Sequence[Factors]) -> str:
    return LOW if all(each.is_low for each in found) else ""
