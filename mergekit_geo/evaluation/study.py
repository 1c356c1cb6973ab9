"""What every command that measures along paths sets up: data, a live module, an evaluator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import EvalData
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.cache_key import cache_key
from mergekit_geo.evaluation.losses import LossPlan
from mergekit_geo.evaluation.source import source_of
from mergekit_geo.processes import broadcast, is_main_process
from mergekit_geo.progress import Progress

if TYPE_CHECKING:
    from torch.nn import Module

    from mergekit_geo.evaluation.cache import LossCache
    from mergekit_geo.evaluation.evaluation import Evaluator, Sample
    from mergekit_geo.evaluation.objective import Objective
    from mergekit_geo.evaluation.points import Walk
    from mergekit_geo.evaluation.source import Data
    from mergekit_geo.evaluation.split import Split

BATCH_NORM_EXAMPLES = 2048
NO_STATISTICS = (
    "the model has BatchNorm, and the average of running statistics is that of no model: give "
    "--train-data to estimate them anew"
)


@dataclass(frozen=True)
class Ground:
    """Where losses are measured.

    Attributes:
        walk: Takes a module from point to point.
        warnings: What the user should know.
    """

    walk: Walk
    warnings: tuple[str, ...]

    @property
    def objective(self) -> Objective:
        """The objective, on the examples that are measured."""
        return self.walk.evaluator.objective

    def tell_where(self, progress: Progress) -> None:
        """Report where measured points are cached, if they are."""
        kept = self.walk.kept
        if kept is not None and kept.cache.works:
            progress.say(f"finished points are kept in {kept.folder}")

    def halves(self, seed: int) -> Split:
        """Split of the examples: one half selects, the other reports.

        Raises:
            DataError: Too few documents for both.
        """
        from mergekit_geo.evaluation.split import Split

        return Split.of(self.walk.at_model(0), self.objective.documents, seed)


def require_measurable(plan: LossPlan) -> None:
    """Refuse to measure on nothing.

    Raises:
        DataError: With the reason.
    """
    if plan.objective is None:
        raise DataError(
            f"loss cannot be measured: {plan.reason}", remedy="give held-out data with --data"
        )


def make_ground(
    anchors: Sequence[Checkpoint],
    plan: LossPlan,
    data: Data,
    train_data: EvalData | None,
    compute: Compute,
    progress: Progress,
    *,
    evaluations: int,
    resumable: bool = False,
    refresh_models: bool = True,
) -> Ground:
    """Load a module, and get ready to measure it anywhere between the anchors.

    Args:
        anchors: Checkpoints whose data is here, under the same names.
        plan: What is measured.
        data: The same as asked for.
        train_data: For BatchNorm statistics.
        compute: How models are run.
        progress: Told of the cost.
        evaluations: How many measurements are to come.
        resumable: Keep finished points in the user's cache.
        refresh_models: Estimate BatchNorm statistics anew at the models themselves, too.

    Raises:
        DataError: Nothing can be measured.
    """
    from mergekit_geo.evaluation.cache import LossCache
    from mergekit_geo.evaluation.evaluation import Evaluator
    from mergekit_geo.evaluation.points import Walk
    from mergekit_geo.geometry.linear import Linear
    from mergekit_geo.merging.blend import Blend
    from mergekit_geo.modules.held import hold
    from mergekit_geo.modules.open import open_live

    require_measurable(plan)
    assert plan.objective is not None
    held = hold(anchors, compute.anchors_in_memory)
    first = Blend((held[0],), Linear((1.0,)))
    live = open_live(first, compute)
    live.put(first)
    seed = source_of(data).seed
    evaluator = Evaluator(
        plan.objective, compute, evaluations=evaluations, seed=seed, progress=progress
    )
    training, warnings = _training_for(live.model, anchors[0], train_data, compute)
    train = train_data and asdict(train_data)
    fed = training and [training.digest, training.objective.digest]
    plans = [evaluations, compute.budget, refresh_models, train, fed]
    kept = None
    if resumable and plan.sample is not None and _are_in_folders(anchors):
        key = cache_key(anchors, plan.sample, data, compute, *plans)
        kept = LossCache(key, evaluator.warnings.append)
    _settle(evaluator, kept, live.model)
    refresh = _refresher(training)
    walk = Walk(held, live, evaluator, refresh, refresh_models, kept)
    return Ground(walk, tuple(warnings))


def _settle(evaluator: Evaluator, kept: LossCache | None, model: Module) -> None:
    """Set the number of examples: an earlier run's if cached, else what the budget allows."""
    settled = broadcast(kept.settled(evaluator.count) if kept and is_main_process() else None)
    if settled is None:
        evaluator.fit(model)
    else:
        evaluator.take(settled)
    if kept:
        kept.count = evaluator.count
        if settled is None:
            kept.settle(evaluator.count)


def _are_in_folders(anchors: Sequence[Checkpoint]) -> bool:
    """Whether all anchors are in folders, where changes can be detected."""
    return all(anchor.folder is not None for anchor in anchors)


def _training_for(
    model: Module, donor: Checkpoint, train_data: EvalData | None, compute: Compute
) -> tuple[Sample | None, list[str]]:
    """What BatchNorm statistics are estimated on; a warning where they should be and are not."""
    from mergekit_geo.modules.batch_norm import batch_norms

    if not batch_norms(model):
        return None, []
    if train_data is None or donor.folder is None:
        return None, [f"{NO_STATISTICS} at every point"]
    return _training(train_data, donor.folder, donor.config, compute), []


def _refresher(training: Sample | None) -> Callable[[Module], object]:
    """The function that re-estimates BatchNorm statistics after each move of the module."""
    from mergekit_geo.modules.batch_norm import reestimate

    if training is None:
        return lambda module: None
    objective, batches = training.objective, training.objective.batch_rows()
    return lambda module: reestimate(module, batches, objective.losses_of)


def estimate_statistics(
    module: Module, folder: Path, config: Config, train_data: EvalData, compute: Compute
) -> int:
    """Replace a module's BatchNorm statistics by those of training data; returns the batches."""
    from mergekit_geo.modules.batch_norm import reestimate

    objective = _training(train_data, folder, config, compute).objective
    return reestimate(module, objective.batch_rows(), objective.losses_of)


def _training(train_data: EvalData, folder: Path, config: Config, compute: Compute) -> Sample:
    from mergekit_geo.evaluation.evaluation import prepare

    most = train_data.max_examples or BATCH_NORM_EXAMPLES
    return prepare(replace(train_data, max_examples=most), folder, config, compute)
