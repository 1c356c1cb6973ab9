"""What do normalisation layers do? One deep network with batch norm, layer norm and none.

Usage: python -m examples.lesson.norms OUT

Each learns digits by SGD and by SAM. OUT gets norms.png and norms.json.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

import mergekit_geo as geo
from examples.lesson import digits as common

DEPTH, BATCH, RATE, RHO = 3, 50, 0.2, 0.05
LEARNED = 0.5
"""Training loss in nats below which a rate counts as one that trains."""

COLOURS = {"none": common.RED, "batch norm": common.BLUE, "layer norm": common.GREEN}

MARKS = {"doubled": ("x", "SGD, weights doubled"), "sharpness": ("o", "SGD"), "sam": ("^", "SAM")}


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    seeds: int = 5
    steps: int = 400
    rates: tuple[float, ...] = tuple(0.0125 * 2**power for power in range(11))


QUICK = Sizes(seeds=2, steps=4, rates=(0.1,))


def trained(norm: str, seed: int, steps: int, rate: float, rho: float = 0.0) -> nn.Module:
    """By SAM's step, which is that of SGD where rho is 0."""
    train, _ = common.digits()
    model = common.network(seed, norm, depth=DEPTH).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    step = geo.Sam(model, optimizer, geo.SamArguments(rho=rho))
    for examples in common.batches(train, BATCH, steps, seed):
        step.backward(lambda batch: common.losses_of(model, batch)["loss"].mean(), examples)
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def trains(norm: str, seed: int, steps: int, rate: float) -> bool:
    """Whether training at a rate leads anywhere."""
    train, _ = common.digits()
    try:
        return common.loss_and_error(trained(norm, seed, steps, rate), train)[0] < LEARNED
    except geo.GeoError:  # it diverged
        return False


def lambda_max(model: nn.Module) -> float:
    """Of the loss on the digits to train on."""
    train, _ = common.digits()
    found = geo.sharpness(model, data=common.objective(train))
    return found.measurements.sharpness[0].extremes.largest.value


def doubled(model: nn.Module) -> nn.Module:
    """With twice the weights before every hidden layer's normalisation, or where it would be."""
    twin = copy.deepcopy(model)
    *hidden, _ = (layer for layer in twin.modules() if isinstance(layer, nn.Linear))
    with torch.no_grad():
        for layer in hidden:
            layer.weight.mul_(2)
            layer.bias.mul_(2)
        for layer in twin.modules():
            if isinstance(layer, nn.BatchNorm1d):
                layer.running_mean.mul_(2)
                layer.running_var.mul_(4)
    return twin


def of_seed(norm: str, seed: int, sizes: Sizes) -> dict[str, float]:
    """What is measured of one network."""
    train, held = common.digits()
    plain, sam = (trained(norm, seed, sizes.steps, RATE, rho) for rho in (0.0, RHO))
    twin, rates = doubled(plain), sizes.rates
    works = [rate for rate in rates if trains(norm, seed, sizes.steps, rate)]
    return {
        "loss": common.loss_and_error(plain, train)[0],
        "error": common.loss_and_error(plain, held)[1],
        "sam_error": common.loss_and_error(sam, held)[1],
        "least_rate": min(works, default=float("nan")),
        "most_rate": max(works, default=float("nan")),
        "sharpness": lambda_max(plain),
        "sam": lambda_max(sam),
        "doubled": lambda_max(twin),
        "doubled_loss": common.loss_and_error(twin, train)[0],
    }


def measure(sizes: Sizes = Sizes()) -> dict[str, Any]:
    """Numbers of every seed, by kind of normalisation."""
    found = {
        norm: [of_seed(norm, seed, sizes) for seed in range(sizes.seeds)] for norm in common.NORMS
    }
    return {norm: {key: [one[key] for one in each] for key in each[0]}
            for norm, each in found.items()}  # fmt: skip


def tables(measured: dict[str, Any]) -> dict[str, str]:
    """The table of the page, in Markdown."""
    rows = []
    for norm, one in measured.items():
        ratios = {
            key: [a / b for a, b in zip(one[key], one["sharpness"], strict=True)]
            for key in ("sam", "doubled")
        }
        changed = [a - b for a, b in zip(one["doubled_loss"], one["loss"], strict=True)]
        rates = f"{np.median(one['least_rate']):g} to {np.median(one['most_rate']):g}"
        rows.append([
            norm, rates, common.shown(one["error"], 1), common.factor(one["sharpness"]),
            common.factor(ratios["sam"]), common.shown(changed, 3),
            common.factor(ratios["doubled"]),
        ])  # fmt: skip
    head = [
        "normalisation", "rates that train", "held-out error, %", "λ_max after SGD",
        "SAM / SGD", "loss, change by doubling", "doubled / SGD",
    ]  # fmt: skip
    return {"norms": common.markdown(head, rows)}


def draw(measured: dict[str, Any], path: Path) -> None:
    """Rates at which each trains, and λ_max before and after weights are doubled."""
    figure = Figure(figsize=(8.2, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for place, (norm, one) in enumerate(measured.items()):
        rates = zip(one["least_rate"], one["most_rate"], strict=True)
        for number, (low, high) in enumerate(rates):
            height = place + 0.1 * (number - 2)
            left.plot([low, high], [height, height], ".-", color=COLOURS[norm], linewidth=1)
        for offset, (key, (mark, _)) in zip((0.2, 0, -0.2), MARKS.items(), strict=True):
            right.plot(one[key], [place + offset] * len(one[key]), mark, color=COLOURS[norm])
    left.set(xscale="log", xlabel="learning rates that train", yticks=range(len(measured)))
    left.set_yticklabels(list(measured))
    common.plain_ticks(left.xaxis, (0.01, 0.1, 1, 10))
    right.set(xscale="log", xlabel="λ_max", yticks=[])
    common.plain_ticks(right.xaxis, (0.1, 1, 10, 100))
    for mark, label in MARKS.values():
        right.plot([], [], mark, color="#555555", label=label)
    right.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    common.save(figure, path)


PICTURES = {"norms.png": draw}


def write(out: Path, sizes: Sizes = Sizes()) -> dict[str, Any]:
    """Measure, and write numbers and the picture into a folder."""
    measured = measure(sizes)
    return common.write(out, "norms", measured, PICTURES)


if __name__ == "__main__":
    print("\n\n".join(tables(write(Path(sys.argv[1]))).values()))
