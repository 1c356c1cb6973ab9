"""A small ResNet with and without skip connections: surfaces, curvature and training over seeds.

Usage: python examples/architectures.py OUT [--quick]

Both have 16 convolutions with batch norm and learn scikit-learn's digits. Surfaces are normalised
filter by filter and drawn on one scale; batch norm keeps the statistics of training. OUT gets
surfaces.png, training.png and architectures.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from scipy.stats import t
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mergekit_geo as geo

TRAINED, WIDTH, BATCH = 1400, 8, 64
BASIN = 1.0  # nats: how far a surface may rise and still be the basin
HIGHEST = 1e6  # drawn in place of a loss that is not a number
ALL = geo.Compute(budget=0)  # no smaller sample where the machine is busy
NAMES = {True: "with skips", False: "without"}
COLOURS = {"with skips": "#0072b2", "without": "#d55e00"}


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    blocks: int = 7
    steps: int = 200
    seeds: int = 5
    rates: tuple[float, ...] = (0.05, 0.2)
    grid: int = 15
    examples: int = 128
    curved: int = 64
    spectra: int = 5


QUICK = Sizes(blocks=1, steps=3, seeds=2, rates=(0.2,), grid=3, examples=24, curved=24, spectra=0)


class Block(nn.Module):
    """Two convolutions, around which a skip connection leads, or none."""

    def __init__(self, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.body = nn.Sequential(*convolution(WIDTH), nn.ReLU(), *convolution(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Of (b, width, 8, 8)."""
        found = self.body(x)
        return torch.relu(found + x if self.skip else found)


def convolution(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH)


def network(blocks: int, skip: bool, seed: int) -> nn.Sequential:
    """The same first weights with and without skips."""
    torch.manual_seed(seed)
    body = [Block(skip) for _ in range(blocks)]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 10)
    return nn.Sequential(*convolution(1), nn.ReLU(), *body, *head)


def digits() -> tuple[Tensor, Tensor]:
    """Pictures (b, 1, 8, 8) and classes (b,), in a fixed random order."""
    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    pixels = torch.tensor(found.images, dtype=torch.float32)[order, None]
    return (pixels - pixels.mean()) / pixels.std(), torch.tensor(found.target)[order]


X, Y = digits()


def trained(sizes: Sizes, skip: bool, seed: int, rate: float) -> tuple[nn.Module, list[float]]:
    """SGD with momentum and a cosine schedule; the module and its loss at every step."""
    model, losses = network(sizes.blocks, skip, seed), []
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, sizes.steps)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(sizes.steps):
        rows = torch.randint(TRAINED, (BATCH,), generator=draw)
        loss = cross_entropy(model(X[rows]), Y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return model.eval(), losses


def losses_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    pixels, classes = batch
    logits = model(pixels)
    right = (logits.argmax(1) == classes).float()
    return {"loss": cross_entropy(logits, classes, reduction="none"), "score": right}


def examples(first: int, count: int, batches: int = 4) -> geo.FunctionObjective:
    """Some of the digits."""
    size = -(-count // batches)
    rows = range(first, first + count)
    parts = [list(rows[i : i + size]) for i in range(0, count, size)]
    return geo.FunctionObjective(losses_of, [(X[part], Y[part]) for part in parts])


def surface_of(model: nn.Module, sizes: Sizes) -> dict[str, Any]:
    """The loss around a model, along the same random numbers for all, to one filter norm."""
    view = geo.LandscapeConfig(grid=sizes.grid)
    found = geo.landscape(model, data=examples(0, sizes.examples, 1), view=view, compute=ALL)
    (surface,) = found.measurements.surfaces
    rows = [[round(HIGHEST if loss is None else loss, 4) for loss in row] for row in surface.loss]
    basin = np.array(rows) < surface.marks[0].loss + BASIN
    return {"x": surface.x, "loss": rows, "basin": float(basin.mean())}


def negative(model: nn.Module, sizes: Sizes) -> list[float]:
    """Share of the Hessian's eigenvalues below -τ, with its band over probes."""
    found = geo.sharpness(model, data=examples(0, sizes.curved, 1), level="full", compute=ALL)
    share = found.measurements.sharpness[0].spectrum.negative
    return [share.share, share.low, share.high]


def lambda_max(model: nn.Module, sizes: Sizes) -> float:
    found = geo.sharpness(model, data=examples(0, sizes.examples, 1), compute=ALL)
    return float(found.measurements.sharpness[0].extremes.largest.value)


def ends_of(model: nn.Module) -> dict[str, float]:
    """Loss on all that was trained on, and accuracy on the rest."""
    train = examples(0, TRAINED).measure(model)
    test = examples(TRAINED, len(X) - TRAINED).measure(model)
    return {"loss": float(train.mean), "accuracy": float(test.score.mean())}


def at_seed(sizes: Sizes, skip: bool, seed: int, rate: float) -> dict[str, Any]:
    """Everything of one network at the rate that is looked at closely."""
    model, losses = trained(sizes, skip, seed, rate)
    return {
        "losses": [round(loss, 4) for loss in losses],
        **ends_of(model),
        "lambda_max": lambda_max(model, sizes),
        "negative": negative(model, sizes) if seed < sizes.spectra else None,
        "surface": surface_of(model, sizes),
    }


def measure(sizes: Sizes = Sizes()) -> dict[str, Any]:
    """Everything that pictures and tables show."""
    rate = sizes.rates[len(sizes.rates) // 2]
    found: dict[str, Any] = {"rate": rate, "steps": sizes.steps, "networks": {}, "rates": {}}
    for skip, name in NAMES.items():
        found["networks"][name] = [at_seed(sizes, skip, i, rate) for i in range(sizes.seeds)]
        found["rates"][name] = {
            f"{other:g}": [ends_of(trained(sizes, skip, i, other)[0]) for i in range(sizes.seeds)]
            for other in sizes.rates
            if other != rate
        }
    return found


def draw_surfaces(found: dict[str, Any], path: Path) -> None:
    """The surfaces of the first seed, side by side on one scale."""
    surfaces = {name: ones[0]["surface"] for name, ones in found["networks"].items()}
    values = np.concatenate([np.ravel(one["loss"]) for one in surfaces.values()])
    scale = LogNorm(max(values.min(), 1e-3), values.max())
    levels = np.geomspace(scale.vmin, scale.vmax, 19)
    figure = Figure(figsize=(8.6, 3.9), layout="constrained")
    every = figure.subplots(1, 2, sharey=True)
    for axes, (name, one) in zip(every, surfaces.items(), strict=True):
        shown = axes.contourf(one["x"], one["x"], one["loss"], levels, norm=scale, cmap="viridis")
        axes.contour(one["x"], one["x"], one["loss"], levels, colors="w", linewidths=0.4)
        axes.plot(0, 0, "o", color="w", markersize=4)
        axes.set(title=name, xlabel="filter norms", aspect="equal")
    bar = figure.colorbar(shown, ax=every, label="loss, one scale")
    bar.set_ticks(
        [tick for tick in (0.01, 0.1, 1, 10, 100, 1000) if scale.vmin < tick < scale.vmax]
    )
    bar.ax.yaxis.set_major_formatter("{x:g}")
    figure.savefig(path, dpi=85, metadata={"Software": None})


def draw_training(found: dict[str, Any], path: Path) -> None:
    """The loss of every seed, smoothed over ten steps."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, ones in found["networks"].items():
        for number, one in enumerate(ones):
            smooth = np.convolve(one["losses"], np.ones(10) / 10, "valid")
            label = name if number == 0 else None
            axes.plot(smooth, color=COLOURS[name], alpha=0.75, linewidth=1.2, label=label)
    axes.set(xlabel="step", ylabel="training loss, mean of ten steps", yscale="log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=90, metadata={"Software": None})


PICTURES = {"surfaces.png": draw_surfaces, "training.png": draw_training}


def interval(values: Sequence[float], digits: int, scale: float = 1) -> str:
    """Mean with its 95 % interval over seeds (Student's t)."""
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{scale * np.mean(values):.{digits}f} ± {scale * half:.{digits}f}"


def tables(found: dict[str, Any]) -> dict[str, str]:
    """The tables of the page, in Markdown."""
    names = list(found["networks"])
    of = {
        name: {key: [one[key] for one in ones] for key in ("loss", "accuracy", "lambda_max")}
        | {"basin": [one["surface"]["basin"] for one in ones]}
        for name, ones in found["networks"].items()
    }
    rows = {
        "training loss": [interval(of[name]["loss"], 3) for name in names],
        "test accuracy, %": [interval(of[name]["accuracy"], 1, 100) for name in names],
        "λ_max": [interval(of[name]["lambda_max"], 0) for name in names],
        f"share of the surface within {BASIN:g} nat, %": [
            interval(of[name]["basin"], 0, 100) for name in names
        ],
        "eigenvalues below −τ, %, each spectrum": [
            ", ".join(f"{100 * one['negative'][0]:.1f}" for one in found["networks"][name]
                      if one["negative"])
            for name in names
        ],
    }  # fmt: skip
    lines = [f"| {title} | " + " | ".join(cells) + " |" for title, cells in rows.items()]
    rates = sorted({float(rate) for rate in found["rates"][names[0]]} | {found["rate"]})
    tried = [
        f"| {rate:g} | " + " | ".join(ends(found, name, rate) for name in names) + " |"
        for rate in rates
    ]
    head = " | ".join(names)
    return {
        "networks": "\n".join([f"| | {head} |", "| --- | ---: | ---: |", *lines]),
        "rates": "\n".join([f"| learning rate | {head} |", "| ---: | ---: | ---: |", *tried]),
    }


def ends(found: dict[str, Any], name: str, rate: float) -> str:
    """Training loss at a rate, and the worst seed's."""
    ones = found["rates"][name].get(f"{rate:g}", found["networks"][name])
    losses = [one["loss"] for one in ones]
    return f"{interval(losses, 3)} (worst {max(losses):.2f})"


def write(out: Path, sizes: Sizes = Sizes()) -> dict[str, Any]:
    """Measure, and write numbers and pictures into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    found = measure(sizes)
    (out / "architectures.json").write_text(json.dumps(found) + "\n")
    for name, draw in PICTURES.items():
        draw(found, out / name)
    return found


if __name__ == "__main__":
    found = write(Path(sys.argv[1]), QUICK if "--quick" in sys.argv else Sizes())
    print(*tables(found).values(), sep="\n\n")
