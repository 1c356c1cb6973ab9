"""Coefficients by the entropy of predictions: on whose data, before anything is read of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.study import Study
from mergekit_geo.selection.selector import Selected, Selector

if TYPE_CHECKING:
    from mergekit_geo.config.sets import DataSource
    from mergekit_geo.evaluation.points import PointEvaluator


def distinct(sources: Sequence[DataSource]) -> tuple[DataSource, ...]:
    """Data of models, each once; those without data have none.

    Args:
        sources: Of each model.
    """
    found: list[DataSource] = []
    for one in sources:
        if not one.is_nothing and not any(one is known or one == known for known in found):
            found.append(one)
    return tuple(found)


@dataclass(frozen=True)
class BySmallestEntropy(Selector):
    """Looks for the coefficients with which predictions are most certain.

    Attributes:
        sources: Unlabelled data; the selection half of what is measured on if empty.
    """

    sources: Sequence[DataSource] = ()

    def select(
        self, study: Study, dtype: str | None = None, *, further: int = 0
    ) -> tuple[Selected, PointEvaluator | None]:
        """The point with the coefficients that were found, and where losses were measured.

        Raises:
            ArgumentError: No data was named, and nothing is measured either; or tensors have
                rules of their own.
            UnsupportedError: Predictions of the task have no entropy.
            DataError: There is no data, or all of it is what losses are reported on.
        """
        if self.rules or self.takers:
            raise ArgumentError(
                f"{self.rule.name} finds the coefficients of all tensors from one start",
                remedy="give one start for the whole merge, and no filters",
            )
        if not self.sources and study.plan.objective is None:
            raise ArgumentError(
                f"{self.rule.name} needs unlabelled data, on which predictions are to be certain; "
                f"nor can half of --data be used: {study.plan.reason}",
                remedy="--train-data SOURCE, or --data SOURCE",
            )
        from mergekit_geo.selection.adamerging import adamerged  # torch, to predict

        return adamerged(self, study, further)
