"""A model before and after it was trained, on the same held-out examples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mergekit_geo.clock import clock_of
from mergekit_geo.commands.draft import Evidence
from mergekit_geo.commands.evidence import INNER_POINTS, coarse_barriers, sharpness_evidence
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.failures import failure
from mergekit_geo.evaluation.losses import OUTPUT, LossReport, report_losses
from mergekit_geo.evaluation.study import make_ground

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.commands.evidence import Output
    from mergekit_geo.progress import Progress
    from mergekit_geo.training.tuning import Tuning


def compare(tuning: Tuning, tuned: Checkpoint, output: Output, progress: Progress) -> Evidence:
    """Measure losses and sharpness before and after training, or say why they are missing.

    A failure is a reason in the report, not an error: the trained weights are there already.

    Args:
        tuning: Knows the model before.
        tuned: The model after, as it is stored.
        output: The same as a folder, or as configuration and tensors.
        progress: Told of the cost.
    """
    asked = tuning.asked
    with clock_of(asked.compute.budget).running():
        losses = _losses(tuning, tuned, progress)
        sharpness = sharpness_evidence(
            [tuning.base], output, tuning.plan, asked.data, asked.compute, asked.sharpness,
            progress,
        )  # fmt: skip
    return Evidence(losses, sharpness)


def _losses(tuning: Tuning, tuned: Checkpoint, progress: Progress) -> LossReport:
    if tuning.plan.objective is None:
        return LossReport(reason=tuning.plan.reason)
    try:
        return _measured(tuning, tuned, progress)
    except Exception as error:  # a model's and a tokenizer's own code raise anything
        return LossReport(**vars(failure(error, tuning.asked.data)))


def _measured(tuning: Tuning, tuned: Checkpoint, progress: Progress) -> LossReport:
    asked, base = tuning.asked, tuning.base
    ground = make_ground(
        (base, tuned), tuning.plan, asked.data, asked.batch_norm_data, asked.compute, progress,
        evaluations=2 + INNER_POINTS, resumable=True, refresh_models=False,
    )  # fmt: skip
    walk = ground.walk
    before, after = walk.at_model(0), walk.at_model(1)
    for name, found in ((base.name, before), (OUTPUT, after)):
        if not math.isfinite(found.mean):
            raise DataError("the loss is not a number", where=name)
    barriers, warnings = coarse_barriers(ground, asked.data)
    return report_losses(
        [(base.name, "parent", before), (OUTPUT, "output", after)],
        asked.data,
        tuning.plan.sample,
        [*walk.evaluator.warnings, *ground.warnings, *warnings],
        walk.live.model,
        barriers=barriers,
    )
