"""What the lesson's programs share: scikit-learn's digits, small networks, training, intervals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy.stats import t
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mergekit_geo as geo

Examples = tuple[Tensor, Tensor]
Numbers = dict[str, Any]
BLUE, RED, GREEN, PURPLE = "#0072b2", "#d55e00", "#008f5f", "#8250c4"
NORMS = {"none": nn.Identity, "batch norm": nn.BatchNorm1d, "layer norm": nn.LayerNorm}


def digits(trained: int = 500) -> tuple[Examples, Examples]:
    """Pixels (b, 64) from 0 to 1 and labels (b,) to train on, and those that are held out."""
    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    x = torch.tensor(found.images / 16).float().flatten(1)[order]
    y = torch.tensor(found.target)[order]
    return (x[:trained], y[:trained]), (x[trained:], y[trained:])


def network(seed: int, norm: str = "none", width: int = 64, depth: int = 2) -> nn.Sequential:
    """Hidden layers of ReLUs, each after a layer of normalisation."""
    torch.manual_seed(seed)
    sizes = [(64, width), *[(width, width)] * (depth - 1)]
    hidden = [[nn.Linear(*size), NORMS[norm](width), nn.ReLU()] for size in sizes]
    return nn.Sequential(*(layer for one in hidden for layer in one), nn.Linear(width, 10))


def batches(examples: Examples, size: int, steps: int, seed: int) -> Iterator[Examples]:
    """So many batches, drawn epoch by epoch."""
    x, y = examples
    draw = torch.Generator().manual_seed(seed)
    rows: list[Tensor] = []
    for _ in range(steps):
        rows = rows or [*torch.randperm(len(y), generator=draw).split(size)]
        chosen = rows.pop()
        yield x[chosen], y[chosen]


def losses_of(model: nn.Module, batch: Examples) -> dict[str, Tensor]:
    """Loss of each example, and whether the digit is told right: (b,) each."""
    x, y = batch
    logits = model(x)
    return {
        "loss": cross_entropy(logits, y, reduction="none"),
        "score": (logits.argmax(1) == y).float(),
    }


def objective(examples: Examples) -> geo.FunctionObjective:
    """What mergekit_geo measures: the losses of these examples."""
    x, y = examples
    return geo.FunctionObjective(losses_of, [*zip(x.split(250), y.split(250), strict=True)])


@torch.no_grad()
def loss_and_error(model: nn.Module, examples: Examples) -> tuple[float, float]:
    """Mean loss in nats, and percent of the digits that are told wrong."""
    found = losses_of(model.eval(), examples)
    return float(found["loss"].mean()), 100 - 100 * float(found["score"].mean())


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Mean over seeds, and half its 95 % interval by Student's t."""
    found = np.asarray(values, dtype=np.float64)
    half = t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
    return float(found.mean()), float(half)


def shown(values: Sequence[float], digits: int = 2) -> str:
    """An interval in a table."""
    mean, half = interval(values)
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def factor(values: Sequence[float]) -> str:
    """Geometric mean and its 95 % interval in a table, for what varies by factors."""
    mean, half = interval(np.log(values))
    low, middle, high = np.exp([mean - half, mean, mean + half])
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, whose first column is words."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain_ticks(axis: Axis, ticks: Sequence[float]) -> None:
    """Numbers as they are read on a logarithmic axis."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def save(figure: Figure, path: Path) -> None:
    """Write a picture that is the same file whenever it is drawn."""
    figure.savefig(path, dpi=110, metadata={"Software": None})


def write(
    out: Path, name: str, measured: Numbers, pictures: Mapping[str, Callable[[Numbers, Path], None]]
) -> Numbers:
    """Write NAME.json and pictures into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(measured) + "\n")
    for file, draw in pictures.items():
        draw(measured, out / file)
    return measured
