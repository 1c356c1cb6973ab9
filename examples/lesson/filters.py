"""Why does the normalisation of filters matter? The same networks with it and without.

Usage: python -m examples.lesson.filters OUT

A network trained in small batches, one in large batches, and the first with its weights rescaled
between layers, which changes no prediction. OUT gets filters.png and filters.json.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import nn

import mergekit_geo as geo
from examples.lesson import digits as common
from examples.lesson.generalisation import rescaled, trained

NAMES = ("small batches", "large batches", "small batches, rescaled")
MODES = {"off": "directions as drawn", "on": "filter-normalised"}
LEAST, MOST = 0.01, 100.0
"""Ends of the colour scale, in nats above the middle."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    seeds: int = 5
    steps: int = 12_000
    grid: int = 15


QUICK = Sizes(seeds=2, steps=4, grid=3)


def networks(seed: int, steps: int) -> list[nn.Module]:
    """In the order of NAMES."""
    small, large = (trained(batch, 0.1, seed, steps) for batch in (5, 500))
    return [small, large, rescaled(small)]


def surfaces(models: list[nn.Module], mode: str, grid: int) -> list[Any]:
    """The loss around each model: along the same random draws, on one scale."""
    train, _ = common.digits()
    view = geo.LandscapeConfig(grid=grid, each=True, filter_normalization=mode)
    return geo.landscape(models, view=view, data=common.objective(train)).measurements.surfaces


def rise(surface: Any) -> float:
    """Mean loss of the picture above that of its middle, in nats."""
    heights = np.array(surface.loss)
    middle = len(heights) // 2
    return float(heights.mean() - heights[middle, middle])


def measure(sizes: Sizes = Sizes()) -> dict[str, Any]:
    """Rises of every seed by mode and network, and the first seed's surfaces."""
    rises: dict[str, Any] = {mode: {name: [] for name in NAMES} for mode in MODES}
    shown: dict[str, Any] = {}
    for seed in range(sizes.seeds):
        models = networks(seed, sizes.steps)
        for mode in MODES:
            found = surfaces(models, mode, sizes.grid)
            for name, surface in zip(NAMES, found, strict=True):
                rises[mode][name].append(rise(surface))
            shown.setdefault(mode, [{"x": one.x, "loss": one.loss} for one in found])
    return {"rises": rises, "surfaces": shown}


def tables(measured: dict[str, Any]) -> dict[str, str]:
    """The table of the page, in Markdown: rises, and their ratios to the first network's."""
    rows = []
    for mode, one in measured["rises"].items():
        first = np.array(one[NAMES[0]])
        ratios = [common.shown(np.array(one[name]) / first) for name in NAMES[1:]]
        rows.append([MODES[mode], common.shown(first), *ratios])
    head = ["mean rise of the loss", f"{NAMES[0]}, nats", *(f"{n}, ratio" for n in NAMES[1:])]
    return {"filters": common.markdown(head, rows)}


def draw(measured: dict[str, Any], path: Path) -> None:
    """The surfaces of the first seed, on one logarithmic scale of the height above the middle."""
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    grid = figure.subplots(len(MODES), len(NAMES))
    levels = np.geomspace(LEAST, MOST, 13)
    for row, (mode, title) in zip(grid, MODES.items(), strict=True):
        for axes, name, one in zip(row, NAMES, measured["surfaces"][mode], strict=True):
            heights = np.array(one["loss"])
            middle = len(heights) // 2
            heights = np.clip(heights - heights[middle, middle], LEAST, MOST)
            drawn = axes.contourf(one["x"], one["x"], heights, levels, norm=LogNorm(LEAST, MOST))
            axes.set(title=name if mode == "off" else "", aspect="equal")
        row[0].set_ylabel(title)
    for axes in figure.axes:
        axes.title.set_fontsize("medium")
    figure.colorbar(drawn, ax=grid, label="nats above the middle", ticks=[0.01, 0.1, 1, 10, 100])
    common.save(figure, path)


PICTURES = {"filters.png": draw}


def write(out: Path, sizes: Sizes = Sizes()) -> dict[str, Any]:
    """Measure, and write numbers and the picture into a folder."""
    measured = measure(sizes)
    return common.write(out, "filters", measured, PICTURES)


if __name__ == "__main__":
    print("\n\n".join(tables(write(Path(sys.argv[1]))).values()))
