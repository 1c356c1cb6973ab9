"""SGD and Adam, with and without warm-up, from one beginning on one plane.

Usage: python -m examples.lesson.optimizers OUT

OUT gets optimizers.png and optimizers.json.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import nn

import mergekit_geo as geo
from examples.lesson import digits as common

BATCH = 25
RUNS = {
    "SGD": ("sgd", 0.2, 0.0, common.BLUE),
    "SGD, warm-up": ("sgd", 0.2, 0.3, common.GREEN),
    "Adam": ("adam", 0.01, 0.0, common.RED),
    "Adam, warm-up": ("adam", 0.01, 0.3, common.PURPLE),
}
"""Optimizer, rate, share of the steps in which the rate rises, colour."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    seeds: int = 5
    steps: int = 400
    every: int = 40
    grid: int = 25


QUICK = Sizes(seeds=2, steps=4, every=2, grid=3)


def run(name: str, seed: int, sizes: Sizes) -> list[nn.Module]:
    """The network at the beginning and after every so many steps."""
    kind, rate, warmup, _ = RUNS[name]
    train, _ = common.digits()
    model = common.network(seed)
    made = torch.optim.SGD if kind == "sgd" else torch.optim.Adam
    optimizer = made(model.parameters(), lr=rate)
    kept = [copy.deepcopy(model)]
    for step, examples in enumerate(common.batches(train, BATCH, sizes.steps, seed), 1):
        rise = min(1.0, step / (warmup * sizes.steps)) if warmup else 1.0
        optimizer.param_groups[0]["lr"] = rate * rise
        optimizer.zero_grad()
        common.losses_of(model, examples)["loss"].mean().backward()
        optimizer.step()
        if step % sizes.every == 0:
            kept.append(copy.deepcopy(model))
    return kept


def moved(run: list[nn.Module]) -> torch.Tensor:
    """From the first checkpoint to the last, as one vector."""
    ends = (nn.utils.parameters_to_vector(model.parameters()) for model in (run[-1], run[0]))
    last, first = ends
    return (last - first).detach()


def numbers(run: list[nn.Module], beside: list[nn.Module]) -> dict[str, float]:
    """Where a run ends, and how its way lies to that of another."""
    train, held = common.digits()
    found = geo.sharpness(run[-1], data=common.objective(train)).measurements.sharpness[0]
    way, other = moved(run), moved(beside)
    return {
        "loss": common.loss_and_error(run[-1], train)[0],
        "error": common.loss_and_error(run[-1], held)[1],
        "lambda_max": found.extremes.largest.value,
        "distance": float(way.norm()),
        "cosine": float(way @ other / (way.norm() * other.norm())),
    }


def plane(runs: dict[str, list[nn.Module]], grid: int) -> dict[str, Any]:
    """The loss on the plane of the two largest principal directions of all checkpoints."""
    train, _ = common.digits()
    first, *_ = runs.values()
    every = [first[0], *(model for one in runs.values() for model in one[1:])]
    found = geo.landscape(
        every, trajectory=True, view=geo.LandscapeConfig(grid=grid), data=common.objective(train)
    )
    [surface] = found.measurements.surfaces
    start, *others = ((mark.x, mark.y) for mark in surface.marks)
    places = np.array(others).reshape(len(runs), -1, 2)
    return {
        "x": surface.x,
        "y": surface.y,
        "loss": surface.loss,
        "explained": [axis.explained for axis in surface.axes],
        "paths": {name: [start, *path.tolist()] for name, path in zip(runs, places, strict=True)},
    }


def measure(sizes: Sizes = Sizes()) -> dict[str, Any]:
    """Numbers of every seed by run, and the plane of the first seed."""
    found: dict[str, Any] = {name: [] for name in RUNS}
    shown: dict[str, Any] = {}
    for seed in range(sizes.seeds):
        runs = {name: run(name, seed, sizes) for name in RUNS}
        for name, one in runs.items():
            found[name].append(numbers(one, runs["SGD"]))
        shown = shown or plane(runs, sizes.grid)
    columns = {name: {key: [one[key] for one in each] for key in each[0]}
               for name, each in found.items()}  # fmt: skip
    return {"runs": columns, "plane": shown}


def tables(measured: dict[str, Any]) -> dict[str, str]:
    """The table of the page, in Markdown."""
    places = {"loss": 3, "error": 1, "lambda_max": 1, "distance": 1, "cosine": 2}
    rows = [
        [name, *(common.shown(one[key], digits) for key, digits in places.items())]
        for name, one in measured["runs"].items()
    ]
    head = ["", "training loss", "held-out error, %", "λ_max", "distance", "cosine to SGD's way"]
    return {"optimizers": common.markdown(head, rows)}


def draw(measured: dict[str, Any], path: Path) -> None:
    """The four paths on the loss of their common plane."""
    one = measured["plane"]
    figure = Figure(figsize=(6.0, 4.6), layout="constrained")
    axes = figure.add_subplot()
    heights = np.array(one["loss"])
    levels = np.geomspace(heights.min(), heights.max(), 16)
    scale = LogNorm(heights.min(), heights.max())
    drawn = axes.contourf(one["x"], one["y"], heights, levels, norm=scale, cmap="Greys")
    for name, way in one["paths"].items():
        x, y = np.array(way).T
        axes.plot(x, y, "o-", color=RUNS[name][-1], markersize=3, linewidth=1.2, label=name)
    first, second = (f"{100 * share:.0f} % of the variance" for share in one["explained"])
    axes.plot(*one["paths"]["SGD"][0], "k*", markersize=10, label="beginning")
    axes.set(xlabel=f"first principal direction, {first}", ylabel=f"second, {second}")
    axes.legend(fontsize="small", loc="upper left")
    bar = figure.colorbar(drawn, label="training loss, nats")
    common.plain_ticks(bar.ax.yaxis, (1e-4, 1e-3, 0.01, 0.1, 1, 10))
    common.save(figure, path)


PICTURES = {"optimizers.png": draw}


def write(out: Path, sizes: Sizes = Sizes()) -> dict[str, Any]:
    """Measure, and write numbers and the picture into a folder."""
    measured = measure(sizes)
    return common.write(out, "optimizers", measured, PICTURES)


if __name__ == "__main__":
    print("\n\n".join(tables(write(Path(sys.argv[1]))).values()))
