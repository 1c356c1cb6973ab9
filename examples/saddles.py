"""Saddles of a small network: index against loss, and how many steps it takes to leave one.

Usage: python examples/saddles.py OUT [--quick]

A network of 130 weights learns four classes of scikit-learn's digits, in float64, with an L2 term:
every Hessian is diagonalised. Critical points are found by damped Newton steps from points along
training and from random ones; OUT gets saddles.png, leaving.png and saddles.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import bootstrap, spearmanr, t
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import grad, hessian
from torch.nn.functional import cross_entropy

import mergekit_geo as geo

CLASSES, EXAMPLES, HIDDEN, L2 = 4, 200, 6, 0.01
CRITICAL = 1e-8  # |g| at most: a critical point
FLAT = 1e-6  # |H g| at most this share of |H| |g|: the gradient is in the kernel (Frye 2020)
NEGATIVE = 1e-6  # an eigenvalue is negative below -this share of the largest
RATE, BATCH = 0.2, 16
ALL = geo.Compute(budget=0)  # no smaller sample where the machine is busy
NEAR = 1e-6  # how far from the saddle descent begins, where nothing else is said
FEWEST = 10  # critical points that a rank correlation is of
NOISY = 1e-6  # share of the mean variance that counts as noise
STEEP = -0.05  # λ_min of the saddles that are left, at most
LEFT = 0.02  # a saddle is left when the loss has fallen by this
RADIUS, QUIET, WAIT = 0.01, 1e-3, 50  # perturbed descent (Jin 2017): r, g_thres, t_thres
COLOURS = {"descent": "#0072b2", "mini-batches": "#d55e00", "perturbed": "#008f5f"}


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    starts: int = 200
    newton: int = 150
    training: int = 3000
    saddles: int = 5
    seeds: int = 20
    descent: int = 3000
    offsets: tuple[float, ...] = (1e-8, NEAR, 1e-4, 1e-2)
    batches: tuple[int, ...] = (4, 16, 64)


QUICK = Sizes(
    starts=3, newton=20, training=2, saddles=1, seeds=2, descent=600, offsets=(NEAR,), batches=(16,)
)


def digits() -> tuple[Tensor, Tensor]:
    """Pictures of 4 x 4 pixels as rows (b, 16), and their classes (b,)."""
    found = load_digits()
    pixels = torch.tensor(found.images / 16).reshape(-1, 4, 2, 4, 2).mean((2, 4)).flatten(1)
    kept = torch.tensor(found.target) < CLASSES
    pixels, classes = pixels[kept][:EXAMPLES], torch.tensor(found.target)[kept][:EXAMPLES]
    return (pixels - pixels.mean(0)) / pixels.std(), classes


X, Y = digits()
SHAPES = ((HIDDEN, X.shape[1]), (HIDDEN,), (CLASSES, HIDDEN), (CLASSES,))
COUNTS = [int(np.prod(shape)) for shape in SHAPES]
WEIGHTS = sum(COUNTS)


def network(weights: Tensor) -> nn.Sequential:
    """The network as a module, for the library's measures."""
    made = nn.Sequential(
        nn.Linear(X.shape[1], HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES)
    ).double()
    nn.utils.vector_to_parameters(weights, made.parameters())
    return made


def losses_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The loss of each example, with its L2 term: (b,)."""
    pixels, classes = batch
    first = next(model.parameters())
    squares = sum(parameter.square().sum() for parameter in model.parameters())
    logits = model(pixels.to(first))
    return cross_entropy(logits, classes, reduction="none") + L2 / 2 * squares


def loss(weights: Tensor, pixels: Tensor = X, classes: Tensor = Y) -> Tensor:
    """The mean of the same as a function of all weights: (..., n) of several networks to (...)."""
    rows = weights.shape[:-1]
    parts = zip(weights.split(COUNTS, dim=-1), SHAPES, strict=True)
    first, one, second, two = (part.reshape(*rows, *shape) for part, shape in parts)
    hidden = torch.tanh(pixels @ first.mT + one.unsqueeze(-2))
    logits = hidden @ second.mT + two.unsqueeze(-2)
    right = classes.expand(*rows, -1).unsqueeze(-1)
    told = logits.log_softmax(-1).gather(-1, right).mean((-2, -1))
    return L2 / 2 * weights.square().sum(-1) - told


def slopes(weights: Tensor, *batch: Tensor) -> tuple[Tensor, Tensor]:
    """Loss (k,) and gradient (k, n) of several networks, (k, n)."""
    weights = weights.detach().requires_grad_()
    found = loss(weights, *batch)
    return found.detach(), torch.autograd.grad(found.sum(), weights)[0]


slope, curvature = grad(loss), hessian(loss)


@dataclass(frozen=True)
class Found:
    """Where Newton's method ended."""

    weights: Tensor
    loss: float
    gradient: float
    residual: float
    eigenvalues: Tensor
    vectors: Tensor

    @classmethod
    def at(cls, weights: Tensor) -> Found:
        """Whatever the point is."""
        g, h = slope(weights), curvature(weights)
        values, vectors = torch.linalg.eigh(h)
        size = float(values.abs().max())
        residual = float((h @ g).norm() / (size * g.norm()))
        return cls(weights, float(loss(weights)), float(g.norm()), residual, values, vectors)

    @property
    def kind(self) -> str:
        """Critical, gradient-flat, or neither yet."""
        if self.gradient <= CRITICAL:
            return "critical"
        return "gradient-flat" if self.residual <= FLAT else "unfinished"

    @property
    def negative(self) -> Tensor:
        """Which eigenvalues are negative: (n,)."""
        return self.eigenvalues < -NEGATIVE * self.eigenvalues.abs().max()

    @property
    def index(self) -> float:
        """Share of negative eigenvalues."""
        return float(self.negative.double().mean())

    @property
    def lowest(self) -> float:
        """λ_min."""
        return float(self.eigenvalues[0])


def newton(weights: Tensor, most: int) -> Found:
    """Damped Newton steps on g = 0 (Levenberg-Marquardt), to any kind of critical point.

    A step -(H² + μ)⁻¹ H g is taken if it shortens the gradient, and μ grows if not.
    """
    g, damping, fresh = slope(weights), 1e-2, True
    for _ in range(most):
        if g.norm() < CRITICAL / 100:
            break
        if fresh:
            h = curvature(weights)
            values, vectors = torch.linalg.eigh(h)
            along = vectors.T @ g
            if (values * along).norm() < FLAT / 10 * values.abs().max() * g.norm():
                break
        step = vectors @ (values * along / (values.square() + damping))
        further = slope(weights - step)
        fresh = bool(further.norm() < g.norm())
        if fresh:
            weights, g = weights - step, further
        damping = max(damping * (0.2 if fresh else 4), 1e-14)
    return Found.at(weights)


def starts(sizes: Sizes) -> Iterator[Tensor]:
    """Points along trainings from small and ordinary weights, some moved, and random ones."""
    draw, path = torch.Generator().manual_seed(0), []
    marks = {int(mark) for mark in np.geomspace(1, sizes.training, 16)}
    for scale in (0.02, 0.1, 0.3, 0.3):
        weights = scale * torch.randn(WEIGHTS, generator=draw, dtype=torch.float64)
        for step in range(1, sizes.training + 1):
            weights = weights - RATE * slope(weights)
            if step in marks:
                path.append(weights)
    for i in range(sizes.starts):
        noise = torch.randn(WEIGHTS, generator=draw, dtype=torch.float64)
        if i % 4 == 0:
            yield (0.1 + float(torch.rand(1, generator=draw))) * noise
        else:
            yield path[i % len(path)] + (0, 0.1, 0.3)[i // 4 % 3] * noise


def distinct(points: Sequence[Found]) -> list[Found]:
    """Critical points by loss; those that differ by a symmetry of the network count once."""
    found: dict[tuple[float, float], Found] = {}
    for point in sorted(points, key=lambda one: one.loss):
        if point.kind == "critical":
            found.setdefault((round(point.loss, 7), round(point.lowest, 5)), point)
    return list(found.values())


def rank_correlation(points: Sequence[Found]) -> list[float] | None:
    """Spearman's of index and loss with its 95 % interval (bootstrap over critical points)."""
    pairs = [one.index for one in points], [one.loss for one in points]
    if len(points) < FEWEST:
        return None
    sure = bootstrap(
        pairs, lambda a, b: spearmanr(a, b).statistic, paired=True, vectorized=False,
        n_resamples=2000, method="percentile", rng=0,
    ).confidence_interval  # fmt: skip
    return [float(spearmanr(*pairs).statistic), float(sure.low), float(sure.high)]


def to_leave(saddle: Found, how: str, offset: float, sizes: Sizes, batch: int = BATCH) -> list[int]:
    """Steps until the loss has fallen by LEFT, from each seed; all seeds at once.

    Args:
        saddle: Where it begins, off by a random step.
        how: Full-batch `descent`, SGD on `mini-batches`, or `perturbed` descent (Jin 2017).
        offset: Length of that step.
        sizes: How many seeds, and the most steps.
        batch: Examples of a mini-batch.
    """
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(sizes.seeds, WEIGHTS, generator=draw, dtype=torch.float64)
    weights = saddle.weights + offset * noise / noise.norm(dim=1, keepdim=True)
    steps = torch.full((sizes.seeds,), sizes.descent)
    quiet = torch.full((sizes.seeds,), WAIT)
    for step in range(sizes.descent):
        height, g = slopes(weights)
        steps[(height < saddle.loss - LEFT) & (steps > step)] = step
        if (steps <= step).all():
            break
        if how == "mini-batches":
            rows = torch.randint(len(X), (sizes.seeds, batch), generator=draw)
            _, g = slopes(weights, X[rows], Y[rows])
        elif how == "perturbed":
            due = (g.norm(dim=1) <= QUIET) & (quiet >= WAIT)
            weights = weights + due[:, None] * in_ball(sizes.seeds, draw)
            quiet = torch.where(due, 0, quiet + 1)
            if due.any():
                _, g = slopes(weights)
        weights = weights - RATE * g
    return [int(count) for count in steps]


def in_ball(count: int, draw: torch.Generator) -> Tensor:
    """Points uniformly from a ball of the radius: (count, n)."""
    noise = torch.randn(count, WEIGHTS, generator=draw, dtype=torch.float64)
    share = torch.rand(count, 1, generator=draw, dtype=torch.float64) ** (1 / WEIGHTS)
    return RADIUS * share * noise / noise.norm(dim=1, keepdim=True)


def steepest_with_noise(saddle: Found) -> float:
    """The lowest eigenvalue along whose direction gradients of examples differ; 0 if none is below.

    Where a hidden unit is dead, its incoming and outgoing weights all 0, no example has a gradient
    along its weights: mini-batches make no noise there.
    """
    _, each = slopes(saddle.weights.expand(len(X), -1), X[:, None], Y[:, None])
    along = ((each - each.mean(0)) @ saddle.vectors).square().mean(0)
    noisy = saddle.negative & (along > NOISY * along.mean())
    return min([float(value) for value in saddle.eigenvalues[noisy]], default=0.0)


def objective() -> geo.FunctionObjective:
    """All examples, as the library takes them."""
    return geo.FunctionObjective(losses_of, list(zip(X.chunk(8), Y.chunk(8), strict=True)))


def by_lanczos(saddle: Found) -> dict[str, Any]:
    """What `geo.sharpness` says of the same point in float32, without a whole Hessian."""
    found = geo.sharpness(network(saddle.weights), data=objective(), level="full", compute=ALL)
    (one,) = found.measurements.sharpness
    share, low = one.spectrum.negative, one.extremes.smallest
    return {
        "lambda_min": low.value, "residual": low.residual, "verdict": one.stationarity.kind,
        "index": share.share, "low": share.low, "high": share.high,
    }  # fmt: skip


def by_escape(saddle: Found) -> dict[str, Any]:
    """Where `geo.escape` leads from the point: along ±v_min, then by perturbed descent."""
    found = geo.escape(network(saddle.weights), train_data=objective(), compute=ALL)
    escape = found.measurements.escape
    return {"kind": escape.verdict.kind, "loss": saddle.loss + escape.change}


def mean_of(steps: Sequence[int]) -> list[float]:
    """Mean with its 95 % interval (Student's t over seeds)."""
    half = t.ppf(0.975, len(steps) - 1) * np.std(steps, ddof=1) / len(steps) ** 0.5
    return [float(np.mean(steps)), float(half)]


def leaving(saddle: Found, sizes: Sizes) -> dict[str, Any]:
    """How long one saddle holds each kind of descent."""
    found = {
        how: [mean_of(to_leave(saddle, how, offset, sizes)) for offset in sizes.offsets]
        for how in COLOURS
    }
    sized = [mean_of(to_leave(saddle, "mini-batches", NEAR, sizes, size)) for size in sizes.batches]
    return {
        "loss": saddle.loss, "index": saddle.index, "lambda_min": saddle.lowest,
        "gradient": saddle.gradient, "noisy": steepest_with_noise(saddle), "steps": found,
        "by_batch": sized, "lanczos": by_lanczos(saddle), "escape": by_escape(saddle),
        "weights": saddle.weights.tolist(),
    }  # fmt: skip


def chosen(points: Sequence[Found], count: int) -> list[Found]:
    """Saddles from low to high loss with a clear way down."""
    steep = [one for one in points if one.lowest < STEEP]
    places = np.linspace(0, len(steep) - 1, min(count, len(steep))).round().astype(int)
    return [steep[place] for place in places]


def measure(sizes: Sizes = Sizes()) -> dict[str, Any]:
    """Everything that pictures and tables show."""
    ends = [newton(start, sizes.newton) for start in starts(sizes)]
    points = distinct(ends)
    kinds = [one.kind for one in ends]
    return {
        "weights": WEIGHTS, "examples": len(X), "l2": L2, "bound": CRITICAL, "starts": len(ends),
        "offsets": sizes.offsets, "batches": sizes.batches,
        "ended": {kind: kinds.count(kind) for kind in ("critical", "gradient-flat", "unfinished")},
        "points": [[one.loss, one.index, one.lowest, one.gradient] for one in points],
        "flat": [[one.loss, one.index, one.gradient, one.residual]
                 for one in ends if one.kind == "gradient-flat"],
        "correlation": rank_correlation(points),
        "saddles": [leaving(one, sizes) for one in chosen(points, sizes.saddles)],
    }  # fmt: skip


def draw_index(found: dict[str, Any], path: Path) -> None:
    """Index against loss of the critical points, gradient-flat points apart."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    points, flat = np.array(found["points"]), np.array(found["flat"]).reshape(-1, 4)
    axes.scatter(flat[:, 0], 100 * flat[:, 1], c="#b0b0b0", marker="x", s=24,
                 label=f"gradient-flat: |g| > {CRITICAL:g} and in the kernel of H")  # fmt: skip
    axes.scatter(points[:, 0], 100 * points[:, 1], c="#0072b2", s=22,
                 label=f"critical point: |g| ≤ {CRITICAL:g}")  # fmt: skip
    axes.set_xlabel("loss")
    axes.set_ylabel("index: negative eigenvalues, %")
    axes.legend(loc="lower right", frameon=False)
    save(figure, path)


def draw_leaving(found: dict[str, Any], path: Path) -> None:
    """Steps to leave two saddles, with and without noise on the ways down, against the start."""
    figure = Figure(figsize=(8.4, 3.8), layout="constrained")
    saddles = sorted(found["saddles"], key=lambda one: one["noisy"] / one["lambda_min"])
    shown = {"noise on the steepest way down": saddles[-1], "no noise on a way down": saddles[0]}
    every = figure.subplots(1, 2, sharey=True)
    for axes, (title, saddle) in zip(every, shown.items(), strict=True):
        for how, colour in COLOURS.items():
            means, halves = np.array(saddle["steps"][how]).T
            axes.errorbar(
                found["offsets"], means, halves, fmt="o-", capsize=3, color=colour, label=how
            )
        axes.set(xscale="log", xlabel="distance from the saddle at the start")
        axes.set_title(f"{title}\nloss {saddle['loss']:.2f}, λ_min {saddle['lambda_min']:.2f}")
    every[0].set_ylabel(f"steps until the loss fell by {LEFT:g}")
    every[0].legend(frameon=False)
    every[0].set_ylim(bottom=0)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


PICTURES = {"saddles.png": draw_index, "leaving.png": draw_leaving}


def tables(found: dict[str, Any]) -> dict[str, str]:
    """The tables of the page, in Markdown."""
    ended = found["ended"]
    value, low, high = found["correlation"] or (np.nan,) * 3
    points = [
        str(found["starts"]), str(ended["critical"]), str(len(found["points"])),
        str(ended["gradient-flat"]), str(ended["unfinished"]),
        f"{value:.2f} [{low:.2f}, {high:.2f}]",
    ]  # fmt: skip
    heads = "starts", "critical", "of them distinct", "gradient-flat", "unfinished"
    leaving = [
        "loss", "λ_min", "with noise", "full batch",
        *(f"batch of {size}" for size in found["batches"]), "perturbed",
    ]  # fmt: skip
    lanczos = "loss", "index, %", "by Lanczos", "λ_min", "by Lanczos", "geo.escape", "to loss"
    return {
        "points": table((*heads, "rank correlation"), [points]),
        "leaving": table(
            leaving, [row_of(one, found["offsets"].index(NEAR)) for one in found["saddles"]]
        ),
        "lanczos": table(lanczos, [checked(one) for one in found["saddles"]]),
    }


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---:"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def row_of(saddle: dict[str, Any], where: int) -> list[str]:
    """Steps to leave a saddle, begun near it."""
    means = [
        saddle["steps"]["descent"][where], *saddle["by_batch"], saddle["steps"]["perturbed"][where]
    ]  # fmt: skip
    steps = [f"{mean:.0f} ± {half:.0f}" for mean, half in means]
    return [f"{saddle[name]:.3f}" for name in ("loss", "lambda_min", "noisy")] + steps


def checked(saddle: dict[str, Any]) -> list[str]:
    """Diagonalisation beside Lanczos."""
    own = saddle["lanczos"]
    shares = [f"{100 * own[name]:.1f}" for name in ("index", "low", "high")]
    return [
        f"{saddle['loss']:.3f}", f"{100 * saddle['index']:.1f}",
        "{} [{}, {}]".format(*shares), f"{saddle['lambda_min']:.4f}",
        f"{own['lambda_min']:.4f}", saddle["escape"]["kind"], f"{saddle['escape']['loss']:.3f}",
    ]  # fmt: skip


def write(out: Path, sizes: Sizes = Sizes()) -> dict[str, Any]:
    """Measure, and write numbers and pictures into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    found = measure(sizes)
    (out / "saddles.json").write_text(json.dumps(found) + "\n")
    for name, draw in PICTURES.items():
        draw(found, out / name)
    return found


if __name__ == "__main__":
    found = write(Path(sys.argv[1]), QUICK if "--quick" in sys.argv else Sizes())
    print(*tables(found).values(), sep="\n\n")
