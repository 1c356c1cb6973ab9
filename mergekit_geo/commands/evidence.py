"""What a merge is measured by: its parents, itself, and the barriers between the parents."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.content import content_digest
from mergekit_geo.config.measures import Compute, SharpnessRadii
from mergekit_geo.config.selection import INNER_POINTS, MOST_PARENTS, SEGMENT_POINTS, measurements
from mergekit_geo.connectivity.barrier import path_heights
from mergekit_geo.connectivity.pairs import barrier_entry, measure_pairs, path_entry, profile_of
from mergekit_geo.connectivity.paths import path
from mergekit_geo.curvature.levels import level_of
from mergekit_geo.curvature.suite import Subject, measure_sharpness, subject
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.losses import OUTPUT, LossRole, report_losses
from mergekit_geo.evaluation.plan import LossReport, SharpnessReport, failure
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.evaluation.study import Study
from mergekit_geo.modules.load import load_model
from mergekit_geo.modules.open import load_result
from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.selection.baseline import MatchedComputeBaseline
from mergekit_geo.selection.segment import SelectedPoint
from mergekit_geo.selection.selector import Selected
from mergekit_geo.tasks.losses import Losses

MergedModel = Path | tuple[Config, dict[str, Tensor]]
NamedLosses = list[tuple[str, LossRole, Losses]]


def loss_evidence(
    study: Study,
    output: MergedModel,
    selection: Selected,
    evaluator: PointEvaluator | None,
    train_ends: bool | None,
) -> LossReport:
    """Measure parents, output and barriers on the same examples.

    A failure is a reason in the report, not an error: the merged weights are there already.

    Args:
        study: The parents, and what loss is measured on.
        output: A folder, or configuration and tensors.
        selection: The point that was merged.
        evaluator: Where it was chosen; None where nothing was measured.
        train_ends: Train the ends of a fitted path further, whatever it takes; within the time left
            if None.
    """
    try:
        count = measurements(len(study.anchors), len(selection.segments))
        evaluator = evaluator or PointEvaluator.open(study, count, refresh_models=False)
        return _measured(evaluator, output, selection, train_ends)
    except Exception as error:  # a model's and a tokenizer's own code raise anything
        return LossReport(**vars(failure(error, study.data)))


def sharpness_evidence(
    study: Study, anchors: Sequence[Checkpoint], output: MergedModel, level: str
) -> SharpnessReport:
    """Measure how curved the loss is at parents and output, on the same examples.

    A failure is a reason in the report, not an error: the merged weights are there already.

    Args:
        study: What loss is measured on.
        anchors: The parents.
        output: A folder, or configuration and tensors.
        level: `off`, `quick` or `full`.
    """
    if level == "off":
        return SharpnessReport(reason="it was turned off")
    subjects = [subject(anchor, "parent", study.compute) for anchor in anchors]
    subjects.append(_output_subject(output, anchors[0], study.compute))
    try:
        return measure_sharpness(study, subjects, level_of(level), SharpnessRadii())
    except Exception as error:  # a model's own code raises anything
        return SharpnessReport(**vars(failure(error, None)))


def _output_subject(output: MergedModel, donor: Checkpoint, compute: Compute) -> Subject:
    digest = content_digest(output) if isinstance(output, Path) else ""
    wide = replace(compute, dtype="float32")
    return Subject(OUTPUT, "output", lambda: _open(output, donor, wide).float(), digest)


def _measured(
    evaluator: PointEvaluator,
    output: MergedModel,
    selection: Selected,
    train_ends: bool | None,
) -> LossReport:
    anchors = evaluator.study.anchors
    models: NamedLosses = [
        (anchor.name, "parent", evaluator.at_model(i)) for i, anchor in enumerate(anchors)
    ]
    models += _references(evaluator, selection)
    barriers, warnings = coarse_barriers(evaluator)
    if barriers:
        barriers = _told_once([*_segments(evaluator, selection), *barriers])
    trained, reason = MatchedComputeBaseline(train_ends).run(evaluator, selection)
    models += trained
    evaluator.leave()
    module = _open(output, anchors[0], evaluator.study.compute)
    models.append((OUTPUT, "output", evaluator.module_evaluator.measure_any(OUTPUT, module)))
    if selection.split is not None:
        rows = selection.split.report
        models = [(name, role, found.take(rows)) for name, role, found in models]
    for name, _, found in models:
        if not math.isfinite(found.mean):
            raise DataError("the loss is not a number", where=name)
    return report_losses(
        evaluator.study,
        models,
        module,
        [*evaluator.module_evaluator.warnings, *evaluator.warnings, *warnings],
        half="" if selection.split is None else "report",
        barriers=barriers,
        no_control=reason,
    )


def _references(evaluator: PointEvaluator, selection: Selected) -> NamedLosses:
    """The uniform soup, where something else was chosen by loss."""
    if selection.entry is None:
        return []
    names = evaluator.names
    uniform = Point.mean(range(len(names)), names, "uniform soup")
    return [(uniform.title, "reference", evaluator.at(uniform))]


def coarse_barriers(evaluator: PointEvaluator) -> tuple[list[BarrierEntry], list[str]]:
    """Measure barriers between every two of a few models, or warn why there are none."""
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


def _segments(evaluator: PointEvaluator, selection: Selected) -> list[BarrierEntry]:
    """The paths that points were taken of."""
    return [_segment_entry(evaluator, segment) for segment in selection.segments]


def _segment_entry(evaluator: PointEvaluator, found: SelectedPoint) -> BarrierEntry:
    """The path that a point was taken of, and the point on it."""
    segment, taken = found.segment, found.t
    profile = profile_of(
        evaluator,
        segment.measured_at,
        points=SEGMENT_POINTS,
        most=SEGMENT_POINTS + 1,
        also=() if taken is None else (taken,),
    )
    return path_entry(segment.ends, segment.path.name, profile, path_heights(profile), taken)


def _open(output: MergedModel, donor: Checkpoint, compute: Compute) -> Module:
    gc.collect()
    return (
        load_model(output, compute)
        if isinstance(output, Path)
        else load_result(donor, output[1], compute)
    )
