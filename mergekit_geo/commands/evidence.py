"""What a merge is measured by: its parents, itself, and the barriers between the parents."""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.content import content_digest
from mergekit_geo.checkpoints.sources import original
from mergekit_geo.config.measures import Compute, SharpnessRadii
from mergekit_geo.config.selection import INNER_POINTS, MOST_PARENTS, SEGMENT_POINTS, measurements
from mergekit_geo.connectivity.barrier import path_heights
from mergekit_geo.connectivity.pairs import barrier_entry, measure_pairs, path_entry, profile_of
from mergekit_geo.connectivity.paths import path
from mergekit_geo.curvature.levels import level_of
from mergekit_geo.curvature.suite import Subject, measure_sharpness, subject
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.as_they_are import AsTheyAre, on_common_documents
from mergekit_geo.evaluation.block_influence import block_influence
from mergekit_geo.evaluation.evaluator import Evaluator
from mergekit_geo.evaluation.losses import OUTPUT, LossRole, report_losses, run_with
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.evaluation.plan import LossReport, SharpnessReport, failure
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.evaluation.study import Study
from mergekit_geo.modules.beside import State, keep_beside
from mergekit_geo.modules.load import load_model
from mergekit_geo.modules.open import load_result
from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.influence import InfluenceEntry
from mergekit_geo.selection.baseline import MatchedComputeBaseline
from mergekit_geo.selection.segment import SelectedPoint
from mergekit_geo.selection.selector import Selected
from mergekit_geo.tasks.losses import Losses


@dataclass(frozen=True)
class MergedState:
    """A merge that stayed in memory.

    Attributes:
        config: Of its architecture.
        state: Stored name to tensor.
        modules: Weights of the modules after it, by place.
    """

    config: Config
    state: dict[str, Tensor]
    modules: Mapping[int, State] = field(default_factory=dict)


MergedModel = Path | MergedState
NamedLosses = list[tuple[str, LossRole, Losses]]


def loss_evidence(
    study: Study,
    output: MergedModel,
    selection: Selected,
    evaluator: PointEvaluator | None,
    train_ends: bool | None,
) -> LossReport:
    """Measure parents, output and barriers on the same examples.

    A parent whose own tokenizer is another than the output's is measured by that, on the same
    documents.

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
        count = measurements(len(study.anchors), len(selection.segments)) + len(study.plan.unlike)
        evaluator = evaluator or PointEvaluator.open(study, count, refresh_models=False)
        return _measured(evaluator, output, selection, train_ends)
    except Exception as error:  # a model's and a tokenizer's own code raise anything
        return LossReport(**vars(failure(error, study.data)))


def stack_evidence(study: Study, output: MergedModel, donor: Checkpoint) -> LossReport:
    """Losses and block influence of a stack and of its parents, each in its own architecture.

    A failure is a reason in the report, not an error: the merged weights are there already.

    Args:
        study: The parents, and what loss is measured on.
        output: A folder, or configuration and tensors.
        donor: Of the output's architecture.
    """
    try:
        return _measured_stack(study, output, donor)
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
    out = _Output.measured(output, anchors[0], evaluator.module_evaluator, evaluator.study)
    models.append((OUTPUT, "output", out.losses))
    if selection.split is not None:
        rows = selection.split.report
        models = [(name, role, found.take(rows)) for name, role, found in models]
    *_, (_, _, losses) = models
    own = AsTheyAre(evaluator.study, losses)
    found = report_losses(
        evaluator.study,
        _finite(_in_place_of_views(models, own)),
        out.place,
        [*evaluator.module_evaluator.warnings, *evaluator.warnings, *warnings, *own.warnings],
        measured=losses,
        half="" if selection.split is None else "report",
        barriers=barriers,
        no_control=reason,
    )
    return replace(found, tokenization=own.tokenization())


def _in_place_of_views(models: NamedLosses, own: AsTheyAre) -> NamedLosses:
    """Losses of parents by their own tokenizers in place of those by the output's."""
    found = {i: own.measure(original(own.study.anchors[i])) for i in own.study.plan.unlike}
    known = {i: one[0] for i, one in found.items() if one is not None}
    if not known:
        return models
    return _by_document(
        [(name, role, known.get(i, losses)) for i, (name, role, losses) in enumerate(models)]
    )


def _measured_stack(study: Study, output: MergedModel, donor: Checkpoint) -> LossReport:
    assert study.plan.objective is not None, "there is nothing to measure on"
    parents = {anchor.name: original(anchor) for anchor in study.anchors}
    evaluator = Evaluator(
        study.plan.objective, study.compute, evaluations=1 + len(parents), seed=study.seed,
        progress=study.progress,
    )  # fmt: skip
    out = _Output.measured(output, donor, evaluator, study, layers=True)
    own = AsTheyAre(study, out.losses, instead="is left out")
    known = {name: own.measure(parent, layers=True) for name, parent in parents.items()}
    measured = {name: found for name, found in known.items() if found is not None}
    models: NamedLosses = [(name, "parent", found) for name, (found, _) in measured.items()]
    found = report_losses(
        study,
        _finite(_by_document([*models, (OUTPUT, "output", out.losses)])),
        out.place,
        [*evaluator.warnings, *own.warnings],
        measured=out.losses,
    )
    layers = [*(entry for _, entry in measured.values()), out.influence]
    return replace(
        found,
        tokenization=own.tokenization(),
        influence=[entry for entry in layers if entry is not None],
    )


def _by_document(models: NamedLosses) -> NamedLosses:
    """Losses by document: models that cut them into unlike examples can be compared by these."""
    shared = on_common_documents([losses for _, _, losses in models])
    return [(name, role, found) for (name, role, _), found in zip(models, shared, strict=True)]


def _finite(models: NamedLosses) -> NamedLosses:
    """Return the losses, all of which are numbers.

    Raises:
        DataError: One is not.
    """
    for name, _, found in models:
        if not math.isfinite(found.mean):
            raise DataError("the loss is not a number", where=name)
    return models


@dataclass(frozen=True)
class _Output:
    """What was measured of the output before its module was let go."""

    losses: Losses
    place: tuple[str, str, str]
    influence: InfluenceEntry | None

    @classmethod
    def measured(
        cls,
        output: MergedModel,
        donor: Checkpoint,
        evaluator: Evaluator,
        study: Study,
        *,
        layers: bool = False,
    ) -> _Output:
        module = _open(output, donor, study.compute)
        evaluator.fit(module)
        losses, objective = evaluator.measure_any(OUTPUT, module), evaluator.objective
        found = None
        if layers and isinstance(objective, TaskObjective):
            found = block_influence(module, objective, OUTPUT, study.seed)
        return cls(losses, run_with(module), found)


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
    if isinstance(output, Path):
        return load_model(output, compute)
    module = load_result(donor, output.state, compute)
    if output.modules:
        keep_beside(module, output.modules)
    return module
