"""How much each of several models counts at an element, by statistics of theirs."""

from __future__ import annotations

from dataclasses import dataclass

from mergekit_geo.geometry.rule import ModelWeights


@dataclass(frozen=True)
class Weighing:
    """How much each model counts at an element.

    Attributes:
        weights: Of the models; the first of a prior is not looked at.
        floor: Without a prior, statistics are at least this; with one, its own are so much more.
        has_prior: Whether the first model is where the others were tuned from.
    """

    weights: ModelWeights
    floor: float
    has_prior: bool = False
