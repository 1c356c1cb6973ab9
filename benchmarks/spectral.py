"""What merges of whole task matrices cost: time, memory, and ways to a polar factor.

Usage: python benchmarks/spectral.py [--only methods factors memory] [--models N] [--divide D]
                                     [--repeats N] [--device DEVICE]

Times are of two models over a base, of halves, for the linear layers of a Llama of 1.1 billion
parameters: each of its four shapes (sides divided by D), times how often it is there. WUDI's 300
steps are told from ten of them. Times are the processor's, on another device the clock's; of
repeats the fastest counts. Memory is that of a process that merges one tensor in float64, beside
what the merge says beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks import harness
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.matrices import factors, wudi
from mergekit_geo.merging.methods import rule_of
from mergekit_geo.merging.whole import Whole, no_tick

SHAPES = {(2048, 2048): 44, (256, 2048): 44, (5632, 2048): 44, (2048, 5632): 22}
"""Of linear layers of a Llama of 1.1 billion parameters, and how many there are."""

SOME = 10
"""Steps of Adam that are timed."""

METHODS: dict[str, dict[str, bool]] = {
    "tsv": {}, "iso_c": {}, "iso_cts": {}, "knots": {}, "wudi": {"least_squares": True},
}  # fmt: skip


def drawn(shape: tuple[int, int], count: int, device: str, rank: int | None = None) -> list[Tensor]:
    """A base, and models near it whose task matrices have singular values that decay."""
    draw = torch.Generator().manual_seed(0)
    base = 0.02 * torch.randn(shape, generator=draw)
    found = [base]
    for _ in range(count):
        wide = torch.randn(shape, generator=draw) * torch.logspace(0, -2, shape[1])
        if rank is not None:
            left = torch.randn(shape[0], rank, generator=draw)
            wide = left @ torch.randn(rank, shape[1], generator=draw)
        found.append(base + 1e-3 * wide)
    return [one.to(device) for one in found]


def whole(method: str, count: int, **own: bool) -> Whole:
    """The rule of a method for so many models."""
    rule: Rule = rule_of(method, count + 1, 0, **own)
    assert isinstance(rule, Whole)
    return rule


def fastest(work: Callable[[], tuple[float, float]], repeats: int) -> tuple[float, float]:
    """The least seconds of several times, and the error."""
    return min(work() for _ in range(repeats))


def synchronize(device: str) -> None:
    """Wait until all work of a device is done."""
    torch.accelerator.synchronize(device)


def seconds(work: Callable[[], object], device: str) -> float:
    """What a function takes: of the processor, or by the clock until another device is done."""
    if device == "cpu":
        return harness.timed(work).cpu
    synchronize(device)
    return harness.timed(lambda: (work(), synchronize(device))).wall


# Methods


def merge_seconds(
    method: str,
    shape: tuple[int, int],
    count: int,
    device: str,
    *,
    rank: int | None = None,
) -> tuple[float, float]:
    """Seconds of one tensor, and the error that its record states."""
    own = METHODS.get(method, {})
    tensors, found = drawn(shape, count, device, rank), []
    rule = whole(method.split(maxsplit=1)[0], count, **own)
    took = seconds(lambda: found.append(rule.make("w", tensors, device, no_tick)), device)
    return took, float(found[0].error or 0)


def adam_seconds(shape: tuple[int, int], count: int, device: str) -> tuple[float, float]:
    """Seconds of 300 steps of WUDI, from a few of them, whose error says nothing."""
    base, *models = drawn(shape, count, device)
    tasks = [model - base for model in models]
    kept, found = wudi.STEPS, []
    try:
        for steps in (1, 1, 1 + SOME):
            wudi.STEPS = steps
            found.append(seconds(lambda: wudi.by_adam(tasks, no_tick), device))
    finally:
        wudi.STEPS = kept
    _, one, several = found
    return one + (several - one) / SOME * (kept - 1), 0.0


def methods(divide: int, count: int, device: str, repeats: int) -> Iterator[list[str]]:
    """Seconds of each shape and of all layers, by method."""
    works = {name: partial(merge_seconds, name) for name in METHODS}
    works["knots of rank 16"] = partial(merge_seconds, "knots", rank=16)
    works["wudi, 300 steps"] = adam_seconds
    for name, work in works.items():
        found = [
            fastest(partial(work, (m // divide, n // divide), count, device), repeats)
            for m, n in SHAPES
        ]
        total = sum(took * many for (took, _), many in zip(found, SHAPES.values(), strict=True))
        error = max(error for _, error in found)
        times = [f"{took:.2f}" for took, _ in found]
        yield [name, *times, f"{total / 60:.1f}", f"{error:.0e}" if error else ""]


# Factors


def newton_schulz(matrix: Tensor, rounds: int = 40) -> Tensor:
    """The polar factor by cubic steps in float32, from a matrix of norm at most 1."""
    x = matrix / torch.linalg.matrix_norm(matrix, 2)
    for _ in range(rounds):
        x = 1.5 * x - 0.5 * x @ (x.T @ x)
    return x


def by_svd(matrix: Tensor) -> Tensor:
    """The polar factor by an SVD, in the matrix' own dtype."""
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u @ vh


def polar_factors(divide: int, device: str, repeats: int) -> Iterator[list[str]]:
    """Seconds and errors of ways to a polar factor."""
    base, model = drawn((2048 // divide, 2048 // divide), 1, device)
    task = model - base
    ways: dict[str, Callable[[], Tensor]] = {
        "SVD, float64": lambda: by_svd(task.double()),
        "SVD, float32": lambda: by_svd(task),
        "Gram matrix, float64 (used)": lambda: factors.factors(task).polar,
        "Newton-Schulz, 40 steps, float32": lambda: newton_schulz(task),
    }
    exact = ways["SVD, float64"]()
    for name, way in ways.items():
        took, made = min(seconds(way, device) for _ in range(repeats)), way().double()
        off = float(torch.linalg.matrix_norm(made - exact)) / len(task) ** 0.5
        values = torch.linalg.svdvals(made)
        yield [name, f"{took:.2f}", f"{off:.0e}", f"{float((values - 1).abs().max()):.0e}"]


# Memory


def grown(method: str, shape: tuple[int, int], count: int) -> float:
    """Megabytes that merging one tensor adds to a process, the anchors' own included."""
    rule, found = whole(method, count, **METHODS[method]), []
    for size in ((64, 64), shape):
        found.append(harness.peak())
        tensors = [torch.randn(size, dtype=torch.float64) for _ in range(count + 1)]
        rule.make("w", tensors, "cpu", no_tick)
        del tensors
    return harness.peak() - found[-1]


def memory(divide: int, count: int) -> Iterator[list[str]]:
    """Memory told and taken, for one tensor."""
    shape = (5632 // divide, 2048 // divide)
    for name, own in METHODS.items():
        told = whole(name, count, **own).memory(shape, count + 1) / 1e6
        taken = harness.in_child(grown, name, shape, count)
        yield [name, f"{told:.0f}", f"{taken:.0f}", harness.met(taken <= told)]


def main() -> None:
    """Print the tables."""
    parser = harness.parser(__doc__, only=("methods", "factors", "memory"), repeats=3)
    parser.add_argument("--models", type=harness.positive, default=2, help="beside the base (2)")
    parser.add_argument("--divide", type=harness.positive, default=1, help="all sides by (1)")
    parser.add_argument("--device", default="cpu", help="as torch names it (cpu)")
    asked = parser.parse_args()
    print(f"{harness.versions()}, {asked.models} models and a base on {asked.device}\n")
    if "methods" in asked.only:
        sizes = [f"{m // asked.divide} x {n // asked.divide}, s" for m, n in SHAPES]
        head = ["method", *sizes, "all layers, min", "error"]
        harness.table(head, methods(asked.divide, asked.models, asked.device, asked.repeats))
    if "factors" in asked.only:
        print()
        head = ["polar factor", "s", "off float64", "off orthogonal"]
        harness.table(head, polar_factors(asked.divide, asked.device, asked.repeats))
    if "memory" in asked.only:
        print()
        head = ["one tensor", "told, MB", "taken, MB", ""]
        harness.table(head, memory(asked.divide, asked.models))


if __name__ == "__main__":
    main()
