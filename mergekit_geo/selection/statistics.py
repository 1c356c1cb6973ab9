"""Methods that need data of the models: what is computed on it, before anything is merged."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from mergekit_geo.config.model_data import ModelData, sources_of
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.study import Study
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.by_data import ByData
from mergekit_geo.merging.by_entropy import ByEntropy
from mergekit_geo.merging.method import Method
from mergekit_geo.records.statistics import StatisticEntry
from mergekit_geo.selection.by_entropy import BySmallestEntropy, distinct
from mergekit_geo.selection.selector import Selected, Selector, study_names

if TYPE_CHECKING:
    from mergekit_geo.config.data import Data
    from mergekit_geo.config.sets import DataSource
    from mergekit_geo.evaluation.points import PointEvaluator


@dataclass(frozen=True)
class FoundStatistic:
    """What was computed of one model.

    Attributes:
        entry: For the report.
        value: What the rule reads.
        key: Changes when the value does.
        warnings: What the user should know.
    """

    entry: StatisticEntry
    value: Any
    key: str
    warnings: tuple[str, ...] = ()


class Statistic(Protocol):
    """Something that is computed of a model on its data."""

    def of(self, study: Study, position: int, source: DataSource) -> FoundStatistic:
        """Compute it, or find what an earlier run has computed.

        Args:
            study: The models, and how they are run; its clock runs.
            position: Of the model among the study's anchors.
            source: Its data.

        Raises:
            GeoError: The data is unusable, or the model has no such statistic.
        """


@runtime_checkable
class JointStatistic(Protocol):
    """Something that is computed of all models together, each on its data."""

    def of_all(
        self, study: Study, sources: Sequence[DataSource], dtype: str | None
    ) -> list[FoundStatistic]:
        """Compute it, or find what an earlier run has computed.

        Args:
            study: The models, and how they are run; its clock runs.
            sources: Data of each model.
            dtype: Of the output; the first model's own if None.

        Raises:
            GeoError: The data is unusable, or the models have no such statistic.
        """


def _fisher(asks: Any) -> Statistic:
    from mergekit_geo.selection.fisher_statistic import FisherStatistic  # torch, to compute

    return FisherStatistic(asks)


def _grams(asks: Any) -> Statistic:
    from mergekit_geo.selection.gram_statistic import GramStatistic  # torch, to compute

    return GramStatistic(asks)


def _staged_grams(asks: Any) -> JointStatistic:
    from mergekit_geo.selection.gram_statistic import StagedGramStatistic  # torch, to compute

    return StagedGramStatistic(asks)


STATISTICS: Mapping[str, Callable[[Any], Statistic | JointStatistic]] = {
    "fisher": _fisher,
    "uncertainty": _fisher,
    "regmean": _grams,
    "regmean_plus": _staged_grams,
}
"""What makes the statistic that a method's rule asks for."""


@dataclass(frozen=True)
class ByStatistics(Selector):
    """Completes the rule by statistics of every model.

    Attributes:
        sources: Data of each model, in the order of the rule.
        named: Whether the data is a model's own, and not the source for all others.
    """

    sources: tuple[DataSource, ...] = ()
    named: tuple[bool, ...] = ()

    def select(
        self, study: Study, dtype: str | None = None, *, further: int = 0
    ) -> tuple[Selected, PointEvaluator | None]:
        """Compute the statistics, and make the rule of them.

        Raises:
            ArgumentError: Tensors have rules that ask for unlike statistics.
            GeoError: As the statistic raises.
        """
        statistic = STATISTICS[self.rule.name](self._asks())
        if isinstance(statistic, JointStatistic):
            every = statistic.of_all(study, self.sources, dtype)
            found = [self._said(one, position) for position, one in enumerate(every)]
        else:
            places = range(len(self.sources))
            found = [self._found(statistic, study, position) for position in places]
        values, keys = [one.value for one in found], [one.key for one in found]
        whole = replace(
            self,
            rule=_given(self.rule, values, keys),
            rules={name: _given(rule, values, keys) for name, rule in self.rules.items()},
        )
        selected = whole._asked_for(study_names(study))
        return replace(
            selected,
            statistics=tuple(one.entry for one in found),
            warnings=tuple(text for one in found for text in one.warnings),
        ), None

    def _said(self, found: FoundStatistic, position: int) -> FoundStatistic:
        """What was found, and whether its data is that for all models."""
        entry = found.entry.model_copy(update={"shared": not self.named[position]})
        return replace(found, entry=entry)

    def _found(self, statistic: Statistic, study: Study, position: int) -> FoundStatistic:
        """The statistic of one model; the time left is shared with the others and what follows."""
        with study.clock.share(len(self.sources) - position + 1):
            found = statistic.of(study, position, self.sources[position])
        return self._said(found, position)

    def _asks(self) -> Hashable:
        rules = [one for one in (self.rule, *self.rules.values()) if isinstance(one, ByData)]
        asked = {one.asks for one in rules}
        if len(asked) > 1:
            raise ArgumentError(
                f"{self.rule.name} has one statistic a model, and tensors ask for unlike ones",
                remedy="give one number for the whole merge, and no filters",
            )
        return asked.pop()


def _given(rule: Rule, values: Sequence[Any], keys: Sequence[str]) -> Rule:
    return rule.given(values, keys) if isinstance(rule, ByData) else rule


def selector_of(method: Method, rule: Rule, models: Sequence[str], train_data: Data) -> Selector:
    """The selector of a rule: of a method that needs data, what computes it from that first.

    Args:
        method: Of the merge.
        rule: Of it, over the models.
        models: Their names, in the order of the rule.
        train_data: Of the call.

    Raises:
        ArgumentError: A model has no data and the method needs it; or data is that of single
            models, which the method does not need, or of none of these.
    """
    sources = sources_of(train_data, models)
    if isinstance(rule, ByEntropy):
        return BySmallestEntropy(rule, sources=distinct(sources))
    by_model = isinstance(train_data, ModelData)
    if not method.needs:
        if by_model:
            raise ArgumentError(
                f"{method.name} needs no data of single models",
                remedy="--train-data SOURCE, for BatchNorm statistics; or another method",
            )
        return Selector(rule)
    lacking = [name for name, source in zip(models, sources, strict=True) if source.is_nothing]
    if lacking:
        raise ArgumentError(
            f"{method.name} needs training data of each model ({method.needs}), and "
            f"{', '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} none",
            remedy=f"--train-data {lacking[0]}=SOURCE for each, or one --train-data SOURCE for all",
        )
    shared = train_data.shared if isinstance(train_data, ModelData) else None
    named = tuple(by_model and source is not shared for source in sources)
    return ByStatistics(rule, sources=tuple(sources), named=named)
