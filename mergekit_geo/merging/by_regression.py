"""Methods that weigh linear layers by what goes into them: `regmean` and `regmean_plus`."""

from __future__ import annotations

import math

from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.linear import shares
from mergekit_geo.geometry.rule import ModelWeights, Rule
from mergekit_geo.limits import Interval
from mergekit_geo.merging.method import Method
from mergekit_geo.merging.parameter import WEIGHT, Parameter
from mergekit_geo.merging.regmean import GramSettings, RegMean, Regression

NEEDS = "examples"
OF_REGRESSION = "a regression mean"

ALPHA = Parameter(
    "alpha", "Factor up to 1 of the entries of Gram matrices off their diagonal (regmean, "
    "regmean_plus); bound of rho, the ratio of what a model shares to what it alone changes "
    "(ramplus_tl).", 0.9, Interval(0, math.inf, open_high=True),
)  # fmt: skip

EXAMPLES = Parameter(
    "gram_examples", "Examples of each model's data that Gram matrices are made of, at most.",
    256.0, Interval(1, math.inf, open_high=True), whole=True,
)  # fmt: skip
RIDGE = Parameter(
    "ridge", "What holds a regression at the mean of the models, as a share of the mean energy of "
    "an input feature.", 0.0, Interval(0, math.inf, open_high=True),
)  # fmt: skip


def _regmean(
    weights: ModelWeights, alpha: float, ridge: float, gram_examples: float, **_: object
) -> Rule:
    how, asks = _regression(alpha, ridge), GramSettings(int(gram_examples))
    return RegMean("regmean", shares(weights, OF_REGRESSION), how, asks)


def _regmean_plus(
    weights: ModelWeights, alpha: float, ridge: float, gram_examples: float, **_: object
) -> Rule:
    how = _regression(alpha, ridge)
    asks = GramSettings(int(gram_examples), (how, shares(weights, OF_REGRESSION)))
    return RegMean("regmean_plus", weights, how, asks)


def _regression(alpha: float, ridge: float) -> Regression:
    if alpha > 1:
        raise ArgumentError(
            f"alpha of a regression mean must lie in [0, 1], found {alpha:g}: above 1 a Gram "
            "matrix may have negative eigenvalues",
            remedy="--alpha 1 is least squares, and 0.9 is what its authors take",
        )
    return Regression(alpha, ridge)


REGMEAN = Method(
    "regmean",
    "linear layers (in, out): (sum w_i G_i)^-1 sum w_i G_i a_i, G_i the mean x xᵀ over the layer's "
    "inputs in a_i, off its diagonal times alpha; others sum w_i a_i / sum w_i",
    "Jin 2023",
    _regmean,
    (WEIGHT, ALPHA, RIDGE, EXAMPLES),
    needs=NEEDS,
)
REGMEAN_PLUS = Method(
    "regmean_plus",
    "regmean block by block, G_i of what the merged blocks before make of the data of a_i",
    "Nguyen 2025",
    _regmean_plus,
    (WEIGHT, ALPHA, RIDGE, EXAMPLES),
    needs=NEEDS,
)
