"""What a merge is measured by: its parents, itself, and the barriers between the parents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.content import content_digest
from mergekit_geo.checkpoints.sources import original
from mergekit_geo.commands.layer_evidence import LayerEvidence, layer_evidence
from mergekit_geo.commands.merged import MergedModel, open_merged
from mergekit_geo.commands.parent_barriers import (
    at_once,
    barriers_of,
    coarse_points,
    segment_points,
)
from mergekit_geo.commands.set_evidence import SetEvidence, attempt_each
from mergekit_geo.commands.sweep_evidence import sweep_points
from mergekit_geo.config.measures import Compute, SharpnessRadii
from mergekit_geo.config.selection import measurements
from mergekit_geo.curvature.levels import level_of
from mergekit_geo.curvature.suite import Subject, measure_sharpness, subject
from mergekit_geo.evaluation.as_they_are import OneModule
from mergekit_geo.evaluation.evaluator import Evaluator, fit
from mergekit_geo.evaluation.losses import OUTPUT, run_with
from mergekit_geo.evaluation.over_sets import SetReport, nothing_measured, over_sets
from mergekit_geo.evaluation.plan import LossReport, SharpnessReport, failure
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.evaluation.study import Study
from mergekit_geo.evaluation.weighted_sets import on_weighted_mean
from mergekit_geo.modules.open import at_least_single
from mergekit_geo.selection.baseline import MatchedComputeBaseline
from mergekit_geo.selection.selector import Selected

if TYPE_CHECKING:
    from torch.nn import Module


def loss_evidence(
    study: Study,
    output: MergedModel,
    selection: Selected,
    evaluator: PointEvaluator | None,
    train_ends: bool | None,
) -> LossReport:
    """Measure parents, output and barriers on the same examples, of every set.

    A parent whose own tokenizer is another than the output's is measured by that, on the same
    documents.

    A failure is a reason in the report, not an error: the merged weights are there already. What
    fails on one of several sets leaves the others' evidence.

    Args:
        study: The parents, and what loss is measured on.
        output: A folder, or configuration and tensors.
        selection: The point that was merged.
        evaluator: Where it was chosen; None where nothing was measured.
        train_ends: Train the ends of a fitted path further, whatever it takes; within the time left
            if None.
    """
    try:
        count = measurements(len(study.anchors), len(selection.segments)) + len(study.plan.unlike)
        evaluator = evaluator or PointEvaluator.open(study, count, refresh_models=False)
        reports, layers = _measured(evaluator, output, selection, train_ends)
        found = over_sets(reports)
        return replace(found, by_layer=layers.found, no_layers=layers.reason)
    except Exception as error:  # a model's and a tokenizer's own code raise anything
        return nothing_measured(study, error)


def stack_evidence(study: Study, output: MergedModel, donor: Checkpoint) -> LossReport:
    """Losses and block influence of a stack and of its parents, each in its own architecture.

    A failure is a reason in the report, not an error: the merged weights are there already.

    Args:
        study: The parents, and what loss is measured on.
        output: A folder, or configuration and tensors.
        donor: Of the output's architecture.
    """
    try:
        return over_sets(_measured_stack(study, output, donor))
    except Exception as error:  # a model's and a tokenizer's own code raise anything
        return nothing_measured(study, error)


def sharpness_evidence(
    study: Study, anchors: Sequence[Checkpoint], output: MergedModel, level: str
) -> SharpnessReport:
    """Measure how curved the loss is at parents and output, on the same examples.

    Over several sets it is their weighted mean; the loss on the first where that means nothing.

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
        mean = on_weighted_mean(study) if study.further else study
        found = measure_sharpness(mean or study, subjects, level_of(level), SharpnessRadii())
    except Exception as error:  # a model's own code raises anything
        return SharpnessReport(**vars(failure(error, None)))
    of_first = [f"sharpness is on the set {study.name}; geo-merge sharpness measures every set"]
    return replace(found, warnings=[*found.warnings, *([] if mean else of_first)])


def _output_subject(output: MergedModel, donor: Checkpoint, compute: Compute) -> Subject:
    digest = content_digest(output) if isinstance(output, Path) else ""
    wide = replace(compute, dtype="float32")

    def load() -> Module:
        return at_least_single(open_merged(output, donor, wide))

    return Subject(OUTPUT, "output", load, digest)


def _measured(
    evaluator: PointEvaluator, output: MergedModel, selection: Selected, train_ends: bool | None
) -> tuple[list[SetReport], LayerEvidence]:
    anchors, every = evaluator.study.anchors, evaluator.every
    sets = [SetEvidence(one.study, one.module_evaluator, examples=True) for one in every]
    at_once(evaluator, _points(evaluator, selection))
    for found, one in zip(sets, every, strict=True):
        found.attempt(partial(_measure_parents, evaluator=one, selection=selection))
    layers = _layers(evaluator, sets, selection)
    reason = _train_further(evaluator, sets, selection, train_ends)
    evaluator.leave()
    place = _measure_output(sets, output, anchors[0])
    opened = OneModule()
    for index in evaluator.study.plan.unlike:
        attempt_each(sets, partial(SetEvidence.measure_as_it_is, index=index, opened=opened))
    attempt_each(sets, lambda one: one.report(place, reason))
    return [one.result for one in sets], layers


def _layers(
    evaluator: PointEvaluator, sets: Sequence[SetEvidence], selection: Selected
) -> LayerEvidence:
    """Which layers did it, where every set was measured."""
    if any(found.failed is not None for found in sets):
        return LayerEvidence()
    try:
        return layer_evidence(evaluator, selection)
    except Exception as error:  # a model's own code raises anything
        return LayerEvidence(reason=failure(error, None).reason)


def _points(evaluator: PointEvaluator, selection: Selected) -> Iterator[Point]:
    """All points whose losses are asked for, but for those that a search looks at."""
    yield from (Point.model(i, name) for i, name in enumerate(evaluator.names))
    yield from _references(evaluator, selection)
    yield from coarse_points(evaluator)
    yield from segment_points(selection)


def _measure_parents(found: SetEvidence, evaluator: PointEvaluator, selection: Selected) -> None:
    names = evaluator.names
    found.models += [(name, "parent", evaluator.at_model(i)) for i, name in enumerate(names)]
    found.models += [
        (point.title, "reference", evaluator.at(point))
        for point in _references(evaluator, selection)
    ]
    found.barriers, warnings = barriers_of(evaluator, selection)
    found.sweep = sweep_points(evaluator, selection)
    found.warnings += [*evaluator.warnings, *warnings]
    if selection.split is not None:
        found.rows = evaluator.split.report


def _references(evaluator: PointEvaluator, selection: Selected) -> list[Point]:
    """The uniform soup, where something else was chosen by loss."""
    names = evaluator.names
    uniform = Point.mean(selection.soup or range(len(names)), names, "uniform soup")
    return [] if selection.entry is None else [uniform]


def _train_further(
    evaluator: PointEvaluator, sets: Sequence[SetEvidence], selection: Selected, wanted: bool | None
) -> str:
    """Measure the ends of a fitted path after further training; returns why that is not done."""
    pairs = zip(evaluator.every, sets, strict=True)
    working = [(one, found) for one, found in pairs if found.failed is None]
    if not working:
        return ""
    first, *others = (one for one, _ in working)
    trained, reason = MatchedComputeBaseline(wanted).run(
        replace(first, further=tuple(others)) if len(working) < len(sets) else evaluator, selection
    )
    for title, losses in trained:
        for (_, found), own in zip(working, losses, strict=True):
            found.models.append((title, "reference", own))
    return reason


def _measure_output(
    sets: Sequence[SetEvidence], output: MergedModel, donor: Checkpoint
) -> tuple[str, str, str]:
    """Measure the output on every set, and let its module go; returns what it ran with."""
    module = open_merged(output, donor, sets[0].study.compute)
    fit([one.evaluator for one in sets], module)
    attempt_each(sets, lambda one: one.measure_output(module))
    return run_with(module)


def _measured_stack(study: Study, output: MergedModel, donor: Checkpoint) -> list[SetReport]:
    parents, opened = [original(anchor) for anchor in study.anchors], OneModule()
    sets = [
        SetEvidence(
            one, _evaluator(one, 1 + len(parents)), apart=True, layers=one is study, examples=True
        )
        for one in study.sets
    ]
    place = _measure_output(sets, output, donor)
    for parent in parents:
        attempt_each(sets, partial(SetEvidence.measure_apart, parent=parent, opened=opened))
    attempt_each(sets, lambda one: one.report(place))
    return [one.result for one in sets]


def _evaluator(study: Study, evaluations: int) -> Evaluator:
    assert study.plan.objective is not None, "there is nothing to measure on"
    return Evaluator(
        study.plan.objective, study.compute, evaluations=evaluations, seed=study.seed,
        progress=study.progress,
    )  # fmt: skip
