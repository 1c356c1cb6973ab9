"""What a sweep between two models found, on the half of each set that did not choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergekit_geo.evaluation.statistics import mean_loss, mean_score, paired_difference
from mergekit_geo.records.sweep import SweepEntry, SweepPoint

if TYPE_CHECKING:
    from mergekit_geo.evaluation.plan import LossReport
    from mergekit_geo.evaluation.points import PointEvaluator
    from mergekit_geo.selection.selector import Selected


def sweep_points(evaluator: PointEvaluator, selection: Selected) -> list[SweepPoint]:
    """Losses at the places of a sweep on one set; none where no sweep was asked for.

    Args:
        evaluator: Of the set; its points are measured already, or will be here.
        selection: What was chosen, and the path that it is a point of.
    """
    if not (swept := [one for one in selection.segments if one.sweep]):
        return []
    (found,), rows = swept, evaluator.split.report
    losses = [evaluator.at(found.segment.measured_at(t)).take(rows) for t in found.sweep]
    return [
        SweepPoint(
            t=t,
            loss=mean_loss(here).estimate,
            from_first=paired_difference(here, losses[0]).estimate,
            from_second=paired_difference(here, losses[-1]).estimate,
            metric=mean_score(here),
        )
        for t, here in zip(found.sweep, losses, strict=True)
    ]


def sweep_entry(selection: Selected, found: LossReport) -> SweepEntry | None:
    """The sweep for the report; None where no sweep was asked for, or nothing was measured.

    Args:
        selection: What was chosen.
        found: What was measured.
    """
    known = {name: points for name, points in found.sweep.items() if points}
    if not known:
        return None
    (chosen,) = (one for one in selection.segments if one.sweep)
    assert chosen.t is not None
    first, second = chosen.segment.ends
    return SweepEntry(
        first=first, second=second, along=chosen.segment.path.name, taken=chosen.t, sets=known
    )
