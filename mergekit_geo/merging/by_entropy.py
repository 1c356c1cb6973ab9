"""AdaMerging: coefficients that make predictions certain on unlabelled data (Yang 2024).

The rule is where the search starts; `selection.adamerging` finds the coefficients before any tensor
is merged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.limits import Interval
from mergekit_geo.merging.method import BaseUse, Method
from mergekit_geo.merging.parameter import Parameter

NAME = "adamerging"
SHARE = Interval(0, 1)
"""Coefficients are clamped to it, as published."""


@dataclass(frozen=True)
class ByEntropy(Linear):
    """b + sum_i c_i v_i, where a search for the c_i starts: one for each model and tensor.

    Attributes:
        start: Every c_i at first.
        steps: Of the optimizer.
        learning_rate: Of Adam, on the c_i.
        granularity: What has a c_i of its own: `tensor`, or `model`.
    """

    start: float = 0.3
    steps: int = 500
    learning_rate: float = 1e-3
    granularity: str = "tensor"


def _rule(
    count: int, start: float, steps: float, learning_rate: float, task_wise: bool, **_: object
) -> Rule:
    weights = (1 - count * start, *[start] * count)
    granularity = "model" if task_wise else "tensor"
    return ByEntropy(
        weights, NAME, NAME, start=start, steps=int(steps), learning_rate=learning_rate,
        granularity=granularity,
    )  # fmt: skip


ADAMERGING = Method(
    NAME,
    "b + sum l_i v_i in each tensor, the l_i in [0, 1] by Adam on the entropy of predictions",
    "Yang 2024",
    _rule,
    (
        Parameter("start", "Coefficient that each task vector has at first.", 0.3, SHARE),
        Parameter(
            "steps", "Optimizer steps.", 500, Interval(1, math.inf, open_high=True), whole=True
        ),
        Parameter(
            "learning_rate", "Learning rate of the coefficients.", 1e-3,
            Interval(0, math.inf, open_high=True),
        ),
        Parameter("task_wise", "One coefficient for each model, and not for each tensor.", False),
    ),
    BaseUse.REQUIRED,
    needs="examples without labels, or else half of --data",
)  # fmt: skip
