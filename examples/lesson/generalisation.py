"""Why does one network generalise and another not, where both have no training loss left?

Usage: python -m examples.lesson.generalisation OUT

Networks learn 500 digits by SGD until their loss is 0.003, in small or large batches. OUT gets
generalisation.png and generalisation.json.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

import mergekit_geo as geo
from examples.lesson import digits as common

LOSS, LOOK, FACTOR = 3e-3, 50, 4.0
RUNS = {
    "batch 5, rate 0.1": (5, 0.1, common.BLUE),
    "batch 500, rate 0.1": (500, 0.1, common.RED),
    "batch 500, rate 0.5": (500, 0.5, common.PURPLE),
}
"""Batch size, learning rate, colour."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    seeds: int = 8
    steps: int = 12_000
    level: str = "full"


QUICK = Sizes(seeds=2, steps=20, level="quick")


def trained(batch: int, rate: float, seed: int, steps: int) -> nn.Module:
    """By SGD until the loss is LOSS."""
    train, _ = common.digits()
    model = common.network(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for step, examples in enumerate(common.batches(train, batch, steps, seed), 1):
        optimizer.zero_grad()
        common.losses_of(model, examples)["loss"].mean().backward()
        optimizer.step()
        if step % LOOK == 0 and common.loss_and_error(model, train)[0] < LOSS:
            break
    return model


def rescaled(model: nn.Module) -> nn.Module:
    """The same function: a ReLU passes on FACTOR times as much, of which the next layer takes less.

    Dinh 2017: sharpness can be made anything without a change of any prediction.
    """
    twin = copy.deepcopy(model)
    first, second, _ = (layer for layer in twin.modules() if isinstance(layer, nn.Linear))
    with torch.no_grad():
        first.weight.mul_(FACTOR)
        first.bias.mul_(FACTOR)
        second.weight.div_(FACTOR)
    return twin


def numbers(model: nn.Module, level: str) -> dict[str, float]:
    """Training loss, held-out loss and error, and curvature."""
    train, held = common.digits()
    loss, _ = common.loss_and_error(model, train)
    held_loss, error = common.loss_and_error(model, held)
    found = geo.sharpness(model, data=common.objective(train), level=level)
    [entry] = found.measurements.sharpness
    adaptive = entry.ascent.adaptive_worst if entry.ascent else float("nan")
    return {
        "loss": loss, "held_loss": held_loss, "error": error,
        "lambda_max": entry.extremes.largest.value, "adaptive": 1000 * adaptive,
    }  # fmt: skip


def measure(sizes: Sizes = Sizes()) -> dict[str, Any]:
    """Every run's numbers, by its name; the last are the twins of the first."""
    found: dict[str, Any] = {}
    for seed in range(sizes.seeds):
        for name, (batch, rate, _) in RUNS.items():
            model = trained(batch, rate, seed, sizes.steps)
            found.setdefault(name, []).append(numbers(model, sizes.level))
            if name == next(iter(RUNS)):
                twin = numbers(rescaled(model), sizes.level)
                found.setdefault("batch 5, rescaled", []).append(twin)
    return {name: {key: [one[key] for one in each] for key in each[0]}
            for name, each in found.items()}  # fmt: skip


def tables(measured: dict[str, Any]) -> dict[str, str]:
    """The table of the page, in Markdown."""
    columns = {"error": 2, "held_loss": 3, "lambda_max": 2, "adaptive": 1}
    rows = [
        [name, *(common.shown(one[key], places) for key, places in columns.items())]
        for name, one in measured.items()
    ]
    head = [
        "until the loss is 0.003", "held-out error, %", "held-out loss, nats", "λ_max",
        "adaptive sharpness, 10⁻³ nats",
    ]  # fmt: skip
    return {"generalisation": common.markdown(head, rows)}


def draw(measured: dict[str, Any], path: Path) -> None:
    """Held-out loss beside λ_max and beside adaptive sharpness, a point a run."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    names = {"lambda_max": "λ_max", "adaptive": "adaptive sharpness, 10⁻³ nats"}
    for axes, (key, label) in zip(figure.subplots(1, 2, sharey=True), names.items(), strict=True):
        for name, (_, _, colour) in RUNS.items():
            one = measured[name]
            axes.plot(one[key], one["held_loss"], "o", color=colour, label=name)
        twin = measured["batch 5, rescaled"]
        axes.plot(twin[key], twin["held_loss"], "x", color=common.BLUE, label="the same, rescaled")
        axes.set(xlabel=label, xscale="log")
        axes.spines[["top", "right"]].set_visible(False)
    common.plain_ticks(figure.axes[0].xaxis, (0.5, 1, 2, 3))
    common.plain_ticks(figure.axes[1].xaxis, (10, 20, 40, 60))
    figure.axes[0].set_ylabel("held-out loss, nats")
    figure.axes[0].legend(frameon=False, fontsize="small")
    common.save(figure, path)


PICTURES = {"generalisation.png": draw}


def write(out: Path, sizes: Sizes = Sizes()) -> dict[str, Any]:
    """Measure, and write numbers and the picture into a folder."""
    measured = measure(sizes)
    return common.write(out, "generalisation", measured, PICTURES)


if __name__ == "__main__":
    print("\n\n".join(tables(write(Path(sys.argv[1]))).values()))
