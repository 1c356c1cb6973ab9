"""What does connectivity mean for ensembling? Ensemble, soup and path side by side.

Usage: python -m examples.lesson.ensembles OUT

Two networks that branch off from a common beginning after so many steps, and their ensemble (mean
of the predictions), their soup (mean of the weights), the middle of a Bezier curve between them,
and the ensemble of five points of the curve. OUT gets ensembles.png and ensembles.json.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import nll_loss

import mergekit_geo as geo
from examples.lesson import digits as common

BATCH, RATE, POINTS = 25, 0.1, (0.1, 0.3, 0.5, 0.7, 0.9)
COLOURS = {"members": "#8a8f98", "ensemble": common.BLUE, "soup": common.RED,
           "middle of the curve": common.GREEN, "ensemble of the curve": common.PURPLE}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    seeds: int = 5
    steps: int = 2000
    common: tuple[int, ...] = (0, 10, 40, 160)
    fit: int = 300


QUICK = Sizes(seeds=2, steps=4, common=(0,), fit=2)


def step_on(model: nn.Module, steps: int, seed: int) -> nn.Module:
    """SGD, in batches that a seed draws."""
    train, _ = common.digits()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for examples in common.batches(train, BATCH, steps, seed):
        optimizer.zero_grad()
        common.losses_of(model, examples)["loss"].mean().backward()
        optimizer.step()
    return model


def siblings(seed: int, shared: int, steps: int) -> list[nn.Module]:
    """Two networks that go apart after `shared` steps; with 0 not even their beginnings agree."""
    if shared == 0:
        return [step_on(common.network(100 * seed + i), steps, 100 * seed + i) for i in (1, 2)]
    trunk = step_on(common.network(seed), shared, seed)
    return [step_on(copy.deepcopy(trunk), steps, 100 * seed + i) for i in (1, 2)]


@torch.no_grad()
def together(models: list[nn.Module]) -> dict[str, float]:
    """Held-out loss and error of the mean of predictions."""
    _, (x, y) = common.digits()
    chances = torch.stack([model(x).softmax(1) for model in models]).mean(0)
    wrong = (chances.argmax(1) != y).float().mean()
    return {"loss": float(nll_loss(chances.log(), y)), "error": 100 * float(wrong)}


def with_weights(model: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """A network of these weights."""
    made = copy.deepcopy(model)
    made.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return made


def on_curve(one: nn.Module, bend: dict[str, Tensor], other: nn.Module, t: float) -> nn.Module:
    """The quadratic Bezier curve at t: (1 - t)^2 a + 2 t (1 - t) bend + t^2 b."""
    a, b = one.state_dict(), other.state_dict()
    return with_weights(
        one,
        {
            name: (1 - t) ** 2 * a[name] + 2 * t * (1 - t) * bend[f"bend.0.{name}"] + t**2 * b[name]
            for name in a
        },
    )


def of_pair(one: nn.Module, other: nn.Module, fit: int) -> dict[str, dict[str, float]]:
    """All that two networks can become."""
    train, held = common.digits()
    data, train_data = common.objective(held), common.objective(train)
    mean = with_weights(one, geo.soup([one, other], data=None).state)
    fitting = geo.CurveFitConfig(steps=fit, learning_rate=0.05, optimizer="sgd")
    with tempfile.TemporaryDirectory() as place:
        geo.fit_path(
            [one, other], f"{place}/path", train_data=train_data, fitting=fitting, data=data
        )
        bend = load_file(f"{place}/path/bends.safetensors")
    curve = [on_curve(one, bend, other, t) for t in POINTS]
    alone = [together([model]) for model in (one, other)]
    return {
        "members": {key: (alone[0][key] + alone[1][key]) / 2 for key in alone[0]},
        "ensemble": together([one, other]),
        "soup": together([mean]),
        "middle of the curve": together([curve[2]]),
        "ensemble of the curve": together(curve),
    }


def measure(sizes: Sizes = Sizes()) -> dict[str, Any]:
    """By steps in common and kind: loss and error of every seed."""
    found: dict[str, Any] = {}
    for shared in sizes.common:
        pairs = [siblings(seed, shared, sizes.steps) for seed in range(sizes.seeds)]
        each = [of_pair(*pair, sizes.fit) for pair in pairs]
        found[str(shared)] = {
            kind: {key: [one[kind][key] for one in each] for key in ("loss", "error")}
            for kind in COLOURS
        }
    return found


def tables(measured: dict[str, Any]) -> dict[str, str]:
    """The table of the page, in Markdown: held-out losses, beside those of the members."""
    members = [np.array(one["members"]["loss"]) for one in measured.values()]
    rows = [["members, loss in nats", *(common.shown(one, 3) for one in members)]]
    for kind in [*COLOURS][1:]:
        found = (np.array(one[kind]["loss"]) for one in measured.values())
        changes = (loss - own for loss, own in zip(found, members, strict=True))
        rows.append([f"{kind} − members", *(common.shown(change, 3) for change in changes)])
    head = ["", *(_words(shared) for shared in measured)]
    return {"ensembles": common.markdown(head, rows)}


def _words(shared: str) -> str:
    return "trained apart" if shared == "0" else f"{shared} steps in common"


def draw(measured: dict[str, Any], path: Path) -> None:
    """Held-out loss by steps in common."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for place, (kind, colour) in enumerate(COLOURS.items()):
        found = [common.interval(one[kind]["loss"]) for one in measured.values()]
        places = [number + 0.08 * (place - 2) for number in range(len(found))]
        means, halves = zip(*found, strict=True)
        axes.errorbar(places, means, halves, fmt="o", color=colour, label=kind)
    axes.set_xticks(range(len(measured)), [*measured])
    axes.set(xlabel="steps in common", ylabel="held-out loss, nats", yscale="log")
    common.plain_ticks(axes.yaxis, (0.15, 0.2, 0.3, 0.5, 1, 2))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    common.save(figure, path)


PICTURES = {"ensembles.png": draw}


def write(out: Path, sizes: Sizes = Sizes()) -> dict[str, Any]:
    """Measure, and write numbers and the picture into a folder."""
    measured = measure(sizes)
    return common.write(out, "ensembles", measured, PICTURES)


if __name__ == "__main__":
    print("\n\n".join(tables(write(Path(sys.argv[1]))).values()))
