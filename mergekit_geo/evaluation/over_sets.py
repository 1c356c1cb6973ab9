"""What was measured on each of several sets, as one report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mergekit_geo.evaluation.beside_best import BesideBest, across_sets
from mergekit_geo.evaluation.losses import NamedLosses, source_entry
from mergekit_geo.evaluation.plan import LossReport, failure
from mergekit_geo.evaluation.statistics import mean_loss, paired_difference
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.records.sets import OutputSetEntry

if TYPE_CHECKING:
    from mergekit_geo.evaluation.study import Study


@dataclass(frozen=True)
class SetReport:
    """What was measured on one set.

    Attributes:
        study: Of the set.
        report: What was found, or why nothing was.
        beside: The output beside the best parent; None where there is none, or nothing was found.
    """

    study: Study
    report: LossReport
    beside: BesideBest | None = None


def beside_best(study: Study, models: NamedLosses, data: DataEntry) -> BesideBest | None:
    """The output beside the parent with the lowest loss.

    Args:
        study: Of the set.
        models: Name, role and losses of each, the output last.
        data: What the set is.
    """
    *others, (_, _, output) = models
    parents = [losses for _, role, losses in others if role == "parent"]
    if not parents:
        return None
    best = min(parents, key=lambda losses: mean_loss(losses).value)
    return BesideBest(
        study.name, study.weight, data, mean_loss(best).value, paired_difference(output, best)
    )


def over_sets(found: Sequence[SetReport]) -> LossReport:
    """One report: that of the only set; or that of the first, with those of all sets.

    Args:
        found: One a set.
    """
    first = found[0].report
    if len(found) == 1:
        return first
    beside = [one.beside for one in found if one.beside is not None]
    place = next((one.report for one in found if not one.report.reason), first)
    return replace(
        first,
        device=place.device,
        dtype=place.dtype,
        attention=place.attention,
        warnings=[f"{one.study.name}: {text}" for one in found for text in one.report.warnings],
        sets={one.study.name: _entry(one) for one in found},
        across=across_sets(beside) if len(beside) == len(found) else None,
        no_control=place.no_control,
        fails=any(one.report.reason for one in found),
        changed=tuple(one for each in found for one in each.report.changed),
        output=tuple(one for each in found for one in each.report.output),
        sweep={name: one for each in found for name, one in each.report.sweep.items()},
    )


def nothing_measured(study: Study, error: Exception) -> LossReport:
    """The report of a measurement that failed on every set.

    Args:
        study: Of the sets.
        error: Why.
    """
    return over_sets(
        [SetReport(one, LossReport(**vars(failure(error, one.data)))) for one in study.sets]
    )


def _entry(found: SetReport) -> OutputSetEntry:
    report, study = found.report, found.study
    data = report.data or source_entry(study, documents=0, examples=0, tokens=0)
    return OutputSetEntry(
        data=data, weight=study.weight, losses=report.losses, differences=report.differences,
        barriers=report.barriers, tokenization=report.tokenization, reason=report.reason,
        examples=next((one.entry for one in report.changed), None),
    )  # fmt: skip
