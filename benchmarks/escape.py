"""How often geo.escape leaves a saddle, and claims one where there is none; and by what it leaves.

    python benchmarks/escape.py [--seeds 20] [--steps 40]

Networks small enough to diagonalise, in float64: two linear layers at 0, saddles of tanh networks
that damped Newton finds (another network, other data, another saddle for each seed), three linear
layers at 0, where the Hessian vanishes, and minima of regularised logistic regression. Of each the
verdicts are counted. Then every saddle is left by three ways, and the loss after the same number of
gradient steps is told beside the first one: the step along v_min and perturbed descent, perturbed
descent alone (no step: a gradient threshold and a seed are all it has), and SGD alone.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks import harness
from mergekit_geo.config.escape import EscapeConfig
from mergekit_geo.curvature.critical import TrainingLoss, critical_point, fall_of
from mergekit_geo.curvature.descent import Constants, Descent, DescentState
from mergekit_geo.curvature.escaping import Escaping
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.evaluation.batches import Shuffled
from mergekit_geo.evaluation.objective import FunctionObjective
from tests.curvature.saddles import linear_data, linear_network, squared_error, tanh_saddle
from tests.curvature.test_escaping import minimum

Point = tuple[nn.Module, FunctionObjective]
BATCH = 4
"""Examples of a batch of SGD."""
FALL = 1e-3
"""Share of the loss whose fall counts."""


def two_layers(seed: int) -> Point:
    """At 0."""
    return linear_network((4, 3, 3)), FunctionObjective(squared_error, [linear_data(seed)])


def three_layers(seed: int) -> Point:
    """At 0, where the Hessian vanishes."""
    return linear_network((4, 3, 3, 3)), FunctionObjective(squared_error, [linear_data(seed)])


def tanh(seed: int) -> Point:
    """At a saddle that the whole spectrum confirms."""
    model, batch, _ = tanh_saddle(seed)
    return model, FunctionObjective(squared_error, [batch])


POINTS: dict[str, Callable[[int], Point]] = {
    "two linear layers at 0": two_layers,
    "saddle of a tanh network": tanh,
    "three linear layers at 0": three_layers,
    "minimum": minimum,
}


def training(model: nn.Module, objective: FunctionObjective) -> TrainingLoss:
    """The loss on all examples."""
    return TrainingLoss(MeanLoss(model, objective.batches()), objective, True)


def verdicts(points: list[Point], steps: int) -> tuple[str, float]:
    """How often each was given, and the median share of the loss that went."""
    found, falls = Counter[str](), []
    for seed, point in enumerate(points):
        at = training(*point)
        home = at.mean.weights.vector()
        entry = Escaping(at, EscapeConfig(steps=steps), seed).run()
        found[entry.verdict.kind] += 1
        falls.append(-entry.change / entry.before.loss)
        at.mean.weights.put(home)
    told = ", ".join(f"{kind} {count}" for kind, count in found.most_common())
    return told, statistics.median(falls)


def ways(points: list[Point], steps: int) -> Iterator[list[str]]:
    """Seeds in which each way leaves, and the median share of the loss that goes."""
    settings = {
        "step along v_min, perturbed descent": EscapeConfig(steps=steps),
        "perturbed descent alone": EscapeConfig(steps=steps, timeout=steps),
        f"SGD alone, batches of {BATCH}": EscapeConfig(then="sgd", steps=steps),
    }
    for number, (name, one) in enumerate(settings.items()):
        shares = [_share(point, one, seed, number) for seed, point in enumerate(points)]
        left = sum(share > FALL for share in shares)
        yield [name, f"{left} of {len(shares)}", f"{statistics.median(shares):.1%}"]


def _share(point: Point, settings: EscapeConfig, seed: int, way: int) -> float:
    """Share of the loss that goes."""
    at = training(*point)
    home = at.mean.weights.vector()
    if way == 0:
        entry = Escaping(at, settings, seed).run()
        share = -entry.change / entry.before.loss
    else:
        before, _ = critical_point(at, settings, seed)
        constants = Constants.of(settings, before.curvature, fall_of(settings, before.loss))
        order = _batches(point[1], seed) if settings.then == "sgd" else None
        state = DescentState(constants.rate)
        Descent(at.mean, settings, constants, state, seed, order).run(lambda: None)
        share = 1 - at.mean.value() / before.loss
    at.mean.weights.put(home)
    return share


def _batches(objective: FunctionObjective, seed: int) -> Shuffled:
    """Small batches of the same examples."""
    ((inputs, targets),) = objective.loader
    pairs = list(zip(inputs.split(BATCH), targets.split(BATCH), strict=True))
    return Shuffled(FunctionObjective(squared_error, pairs), BATCH, seed)


def main() -> None:
    """Print both tables."""
    parser = harness.parser(__doc__)
    parser.add_argument("--seeds", type=harness.positive, default=20)
    parser.add_argument("--steps", type=harness.positive, default=40)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    began, rows, saddles = time.perf_counter(), [], {}
    for name, make in POINTS.items():
        points = [make(seed) for seed in range(asked.seeds)]
        rows.append([name, *map(str, _told(verdicts(points, asked.steps)))])
        saddles[name] = points
        harness.say(name, began)
    harness.table(["point", "verdicts", "median share of the loss that went"], rows)
    for name in list(POINTS)[:2]:
        print(f"\n{name}, {asked.steps} gradient steps:")
        harness.table(["way", "left", "median share"], ways(saddles[name], asked.steps))


def _told(found: tuple[str, float]) -> tuple[str, str]:
    return found[0], f"{found[1]:.1%}"


if __name__ == "__main__":
    main()
