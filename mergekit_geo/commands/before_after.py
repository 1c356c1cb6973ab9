"""A model before and after it was trained, on the same held-out examples."""

from __future__ import annotations

import math

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.commands.draft import Evidence
from mergekit_geo.commands.evidence import MergedModel, coarse_barriers, sharpness_evidence
from mergekit_geo.config.selection import INNER_POINTS
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.losses import OUTPUT, report_losses
from mergekit_geo.evaluation.plan import LossReport, failure
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.evaluation.study import Study
from mergekit_geo.training.tuning import Tuning


def compare(tuning: Tuning, tuned: Checkpoint, output: MergedModel) -> Evidence:
    """Measure losses and sharpness before and after training, or say why they are missing.

    A failure is a reason in the report, not an error: the trained weights are there already.

    Args:
        tuning: Knows the model before.
        tuned: The model after, as it is stored.
        output: The same as a folder, or as configuration and tensors.
    """
    study, anchors = tuning.study(), (tuning.base, tuned)
    if study.plan.objective is None:
        return Evidence.missing(study.plan.reason)
    with study.clock.running():
        losses = _losses(study, anchors)
        sharpness = sharpness_evidence(study, anchors[:1], output, tuning.asked.sharpness)
    return Evidence(losses, sharpness)


def _losses(study: Study, anchors: tuple[Checkpoint, Checkpoint]) -> LossReport:
    try:
        return _measured(study, anchors)
    except Exception as error:  # a model's and a tokenizer's own code raise anything
        return LossReport(**vars(failure(error, study.data)))


def _measured(study: Study, anchors: tuple[Checkpoint, Checkpoint]) -> LossReport:
    evaluator = PointEvaluator.open(study, 2 + INNER_POINTS, anchors=anchors, refresh_models=False)
    name, before, after = anchors[0].name, evaluator.at_model(0), evaluator.at_model(1)
    for where, found in ((name, before), (OUTPUT, after)):
        if not math.isfinite(found.mean):
            raise DataError("the loss is not a number", where=where)
    barriers, warnings = coarse_barriers(evaluator)
    return report_losses(
        study,
        [(name, "parent", before), (OUTPUT, "output", after)],
        evaluator.live.model,
        [*evaluator.module_evaluator.warnings, *evaluator.warnings, *warnings],
        barriers=barriers,
    )
