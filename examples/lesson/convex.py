"""What if the loss were convex? Logistic regression and a small network, each trained four times.

Usage: python -m examples.lesson.convex OUT

Both learn scikit-learn's digits with an L2 term, by L-BFGS from four random beginnings. OUT gets
convex.png and convex.json.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mergekit_geo as geo
from examples.lesson import digits as common

L2, EXAMPLES, SMALL = 0.01, 800, 0.001
COLOURS = {"logistic regression": "#0072b2", "one hidden layer": "#d55e00"}


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    runs: int = 4
    steps: int = 400


QUICK = Sizes(runs=2, steps=120)

found = load_digits()
X, Y = torch.tensor(found.images / 16).float().flatten(1), torch.tensor(found.target)


def losses(model: nn.Module, rows: Tensor) -> Tensor:
    """The loss of each example, with its L2 term: (b,)."""
    squares = sum(parameter.square().sum() for parameter in model.parameters())
    return cross_entropy(model(X[rows]), Y[rows], reduction="none") + L2 / 2 * squares


def trained(name: str, seed: int, steps: int) -> nn.Module:
    """To the end, by L-BFGS from random weights."""
    torch.manual_seed(seed)
    hidden = [nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)]
    model = nn.Sequential(*(hidden if name == "one hidden layer" else [nn.Linear(64, 10)]))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    every = torch.arange(EXAMPLES)
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=steps, tolerance_change=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = losses(model, every).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return model


def between(name: str, sizes: Sizes) -> dict[str, Any]:
    """How far the runs ended apart, and the loss between them."""
    models = [trained(name, seed, sizes.steps) for seed in range(sizes.runs)]
    weights = [nn.utils.parameters_to_vector(model.parameters()).detach() for model in models]
    rows = list(torch.arange(EXAMPLES).chunk(8))
    pairs = geo.barrier(
        models, data=geo.FunctionObjective(losses, rows), compute=geo.Compute(budget=0)
    ).measurements.pairs
    return {
        "norm": float(torch.stack(weights).norm(dim=1).mean()),
        "apart": [float((a - b).norm()) for a, b in combinations(weights, 2)],
        "barriers": [[one.barrier.value, one.barrier.low, one.barrier.high] for one in pairs],
        "t": [one.t for one in pairs],
        "loss": [one.loss for one in pairs],
    }


def measure(sizes: Sizes = Sizes()) -> dict[str, Any]:
    """Everything that the picture and the table show."""
    return {name: between(name, sizes) for name in COLOURS}


def draw(measured: dict[str, Any], path: Path) -> None:
    """The loss on the lines between the runs."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, one in measured.items():
        for number, (places, heights) in enumerate(zip(one["t"], one["loss"], strict=True)):
            label = name if number == 0 else None
            axes.plot(places, heights, color=COLOURS[name], alpha=0.7, label=label)
    axes.set(xlabel="from one run (0) to another (1)", ylabel="loss", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    common.save(figure, path)


def tables(measured: dict[str, Any]) -> dict[str, str]:
    """The table of the page, in Markdown."""
    lines = ["| | norm of the weights | runs end apart | highest barrier, nats |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, one in measured.items():
        value, low, high = max(one["barriers"])
        apart = f"{np.min(one['apart']):.3f} to {np.max(one['apart']):.3f}"
        barrier = f"below {SMALL:g}" if high < SMALL else f"{value:.3f} [{low:.3f}, {high:.3f}]"
        lines.append(f"| {name} | {one['norm']:.1f} | {apart} | {barrier} |")
    return {"convex": "\n".join(lines)}


PICTURES = {"convex.png": draw}


def write(out: Path, sizes: Sizes = Sizes()) -> dict[str, Any]:
    """Measure, and write numbers and the picture into a folder."""
    return common.write(out, "convex", measure(sizes), PICTURES)


if __name__ == "__main__":
    print(*tables(write(Path(sys.argv[1]))).values(), sep="\n\n")
