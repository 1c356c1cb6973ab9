"""Methods that weigh every element of every model by its Fisher: `fisher` and `uncertainty`."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from mergekit_geo.geometry.linear import shares
from mergekit_geo.geometry.rule import ModelWeights, Rule
from mergekit_geo.limits import Interval
from mergekit_geo.merging.method import BaseUse, Method
from mergekit_geo.merging.parameter import STATED_WEIGHT, WEIGHT, Parameter
from mergekit_geo.merging.weighed import FisherSettings, Weighed

NEEDS = "examples with labels"
OF_FISHERS = "a mean by Fishers"

EXAMPLES = Parameter(
    "fisher_examples", "Examples that the Fisher of each model is estimated on, at most.", 256.0,
    Interval(1, math.inf, open_high=True), whole=True,
)  # fmt: skip
EMPIRICAL = Parameter(
    "empirical", "Take the labels of the data for the Fishers; without it they are drawn from the "
    "model.", default=False,
)  # fmt: skip
FLOOR = Parameter(
    "fisher_floor", "Least Fisher of an element: where those of all models are below it, it is the "
    "weighted mean. Of uncertainty, added to the base's.", 1e-6,
    Interval(0, math.inf, open_low=True, open_high=True),
)  # fmt: skip


def _weighed(
    name: str,
    weights: ModelWeights,
    *,
    fisher_examples: float,
    empirical: bool,
    fisher_floor: float,
    has_prior: bool = False,
    **_: object,
) -> Rule:
    asks = FisherSettings(int(fisher_examples), empirical)
    step = shares(weights, OF_FISHERS)
    return Weighed(name, step, asks, fisher_floor, has_prior=has_prior)


FISHER = Method(
    "fisher",
    "sum w_i F_i a_i / sum w_i F_i, elementwise; F_i the diagonal Fisher of a_i on its data",
    "Matena 2022",
    partial(_weighed, "fisher"),
    (WEIGHT, EXAMPLES, EMPIRICAL, FLOOR),
    needs=NEEDS,
)
UNCERTAINTY = Method(
    "uncertainty",
    "b + sum w_i (F_0 + F_i) v_i / (F_0 + sum w_i F_i), elementwise; F_0 the diagonal Fisher of b",
    "Daheim 2024",
    partial(_weighed, "uncertainty", has_prior=True),
    (STATED_WEIGHT, EXAMPLES, EMPIRICAL, replace(FLOOR, default=1e-12)),
    BaseUse.REQUIRED,
    needs=f"{NEEDS}, of the base too",
)
