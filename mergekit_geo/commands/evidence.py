"""What a merge is measured by: its parents, itself, and the barriers between the parents."""

from __future__ import annotations

import gc
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.measures import SharpnessRadii
from mergekit_geo.curvature.levels import level_of
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.losses import OUTPUT, LossRole, report_losses
from mergekit_geo.evaluation.plan import LossReport, SharpnessReport, failure
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.selection.choose import Chosen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.nn import Module

    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.curvature.suite import Subject
    from mergekit_geo.evaluation.points import PointEvaluator
    from mergekit_geo.evaluation.study import Study
    from mergekit_geo.records.barrier import BarrierEntry
    from mergekit_geo.selection.baseline import MatchedComputeBaseline
    from mergekit_geo.selection.selected_point import SelectedPoint
    from mergekit_geo.tasks.losses import Losses

    Output = Path | tuple[Config, dict[str, Tensor]]
    Measured = list[tuple[str, LossRole, Losses]]

MOST_PARENTS = 4
"""Most parents of a merge for which barriers between them are measured."""

INNER_POINTS = 3

SEGMENT_POINTS = 11
"""Points at which the loss is measured on the path that the output is a point of."""


def evidence(
    study: Study,
    output: Output,
    chosen: Chosen,
    evaluator: PointEvaluator | None,
    control: MatchedComputeBaseline,
) -> LossReport:
    """Measure parents, output and barriers on the same examples.

    A failure is a reason in the report, not an error: the merged weights are there already.

    Args:
        study: The parents, and what loss is measured on.
        output: A folder, or configuration and tensors.
        chosen: The point that was merged.
        evaluator: Where it was chosen; None where nothing was measured.
        control: Trains the ends of a fitted path further.
    """
    if study.plan.objective is None:
        return LossReport(reason=study.plan.reason)
    from mergekit_geo.evaluation.points import PointEvaluator

    try:
        count = measurements(len(study.anchors), len(chosen.segments))
        evaluator = evaluator or PointEvaluator.open(study, count, refresh_models=False)
        return _measured(evaluator, output, chosen, control)
    except Exception as error:  # a model's and a tokenizer's own code raise anything
        return LossReport(**vars(failure(error, study.data)))


def measurements(parents: int, segments: int) -> int:
    """Number of losses that measuring a merge takes.

    Example:
        >>> measurements(3, 0)
        13
    """
    pairs = parents * (parents - 1) // 2 if parents <= MOST_PARENTS else 0
    return parents + 1 + INNER_POINTS * pairs + SEGMENT_POINTS * segments


def sharpness_evidence(
    study: Study, anchors: Sequence[Checkpoint], output: Output, level: str
) -> SharpnessReport:
    """Measure how curved the loss is at parents and output, on the same examples.

    A failure is a reason in the report, not an error: the merged weights are there already.

    Args:
        study: What loss is measured on.
        anchors: The parents.
        output: A folder, or configuration and tensors.
        level: `off`, `quick` or `full`.
    """
    if level == "off" or study.plan.objective is None:
        return SharpnessReport(reason=study.plan.reason or "it was turned off")
    from mergekit_geo.curvature.suite import measure_sharpness, subject

    subjects = [subject(anchor, "parent", study.compute) for anchor in anchors]
    subjects.append(_output_subject(output, anchors[0], study.compute))
    try:
        return measure_sharpness(study, subjects, level_of(level), SharpnessRadii())
    except Exception as error:  # a model's own code raises anything
        return SharpnessReport(**vars(failure(error, None)))


def _output_subject(output: Output, donor: Checkpoint, compute: Compute) -> Subject:
    from mergekit_geo.checkpoints.content import content_digest
    from mergekit_geo.curvature.suite import Subject

    digest = content_digest(output) if isinstance(output, Path) else ""
    wide = replace(compute, dtype="float32")
    return Subject(OUTPUT, "output", lambda: _open(output, donor, wide).float(), digest)


def _measured(
    evaluator: PointEvaluator, output: Output, chosen: Chosen, control: MatchedComputeBaseline
) -> LossReport:
    anchors = evaluator.study.anchors
    models: Measured = [
        (anchor.name, "parent", evaluator.at_model(i)) for i, anchor in enumerate(anchors)
    ]
    models += _references(evaluator, chosen)
    barriers, warnings = coarse_barriers(evaluator)
    if barriers:
        barriers = _told_once([*_segments(evaluator, chosen), *barriers])
    trained, reason = control.run(evaluator, chosen)
    models += trained
    evaluator.leave()
    module = _open(output, anchors[0], evaluator.study.compute)
    models.append((OUTPUT, "output", evaluator.module_evaluator.measure_any(OUTPUT, module)))
    if chosen.split is not None:
        rows = chosen.split.report
        models = [(name, role, found.take(rows)) for name, role, found in models]
    for name, _, found in models:
        if not math.isfinite(found.mean):
            raise DataError("the loss is not a number", where=name)
    return report_losses(
        evaluator.study,
        models,
        module,
        [*evaluator.module_evaluator.warnings, *evaluator.warnings, *warnings],
        half="" if chosen.split is None else "report",
        barriers=barriers,
        no_control=reason,
    )


def _references(evaluator: PointEvaluator, chosen: Chosen) -> Measured:
    """The uniform soup, where something else was chosen by loss."""
    from mergekit_geo.merging.blend import Blend

    if chosen.entry is None:
        return []
    count = len(evaluator.anchors)
    uniform = Blend(tuple(evaluator.anchors), Linear((1 / count,) * count))
    key = f"soup {list(range(count))}"
    return [("uniform soup", "reference", evaluator.at("uniform soup", uniform, key))]


def coarse_barriers(evaluator: PointEvaluator) -> tuple[list[BarrierEntry], list[str]]:
    """Measure barriers between every two of a few models, or warn why there are none."""
    from mergekit_geo.connectivity.pairs import barrier_entry, measure_pairs
    from mergekit_geo.connectivity.paths import path

    if not 1 < len(evaluator.anchors) <= MOST_PARENTS:
        return [], []
    try:
        _ = evaluator.split
    except DataError as error:
        return [], [f"no barrier between the models: {error}"]
    points = INNER_POINTS + 2
    pairs = measure_pairs(evaluator, (path("linear"),), points=points, most=points)
    return [barrier_entry(evaluator, pair) for pair in pairs], []


def _told_once(entries: Sequence[BarrierEntry]) -> list[BarrierEntry]:
    """Keep the first entry of each pair and kind of path: a segment's points are closer.

    The segments come last.
    """
    found: dict[tuple[frozenset[str], str], BarrierEntry] = {}
    for entry in entries:
        found.setdefault((frozenset((entry.first, entry.second)), entry.along), entry)
    return sorted(found.values(), key=lambda entry: entry.taken is not None)


def _segments(evaluator: PointEvaluator, chosen: Chosen) -> list[BarrierEntry]:
    """The paths that points were taken of."""
    return [_segment_entry(evaluator, segment) for segment in chosen.segments]


def _segment_entry(evaluator: PointEvaluator, found: SelectedPoint) -> BarrierEntry:
    """The path that a point was taken of, and the point on it."""
    from mergekit_geo.connectivity.barrier import path_heights
    from mergekit_geo.connectivity.pairs import path_entry
    from mergekit_geo.connectivity.profile import trace

    segment, taken, split = found.segment, found.t, evaluator.split
    profile = trace(
        lambda t: segment.losses(evaluator, t),
        lambda losses: split,
        points=SEGMENT_POINTS,
        most=SEGMENT_POINTS + 1,
        also=() if taken is None else (taken,),
    )
    names = (segment.start.title, segment.names[segment.target])
    return path_entry(names, segment.route.name, profile, path_heights(profile), taken)


def _open(output: Output, donor: Checkpoint, compute: Compute) -> Module:
    from mergekit_geo.modules.load import load_model
    from mergekit_geo.modules.open import load_result

    gc.collect()
    return (
        load_model(output, compute)
        if isinstance(output, Path)
        else load_result(donor, output[1], compute)
    )
