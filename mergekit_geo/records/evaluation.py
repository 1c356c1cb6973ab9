"""Losses of models side by side, on one evaluation set or several."""

from __future__ import annotations

from typing import ClassVar

from mergekit_geo.records import Sparse
from mergekit_geo.records.losses import DifferenceEntry, LossEntry, SetEntry


class EvaluationSet(SetEntry):
    """Models on one evaluation set.

    Attributes:
        best: The model whose loss is lowest there; empty where losses cannot be compared.
        differences: Each other model minus that one, on the same examples.
    """

    best: str = ""
    differences: list[DifferenceEntry] = []


class EvaluationMeasurements(Sparse):
    """Result of an evaluation; of several sets the first is outside `sets`, too.

    Attributes:
        losses: Of the models, in the order in which they were named.
        best: The model whose loss is lowest; empty where losses cannot be compared.
        differences: Each other model minus that one, on the same examples.
        sets: By name, where there are several.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ("sets",)

    losses: list[LossEntry]
    best: str
    differences: list[DifferenceEntry]
    sets: dict[str, EvaluationSet] = {}
