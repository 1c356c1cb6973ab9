"""The path from a point of weight space to a model, fitted where it has to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.config.data import source_of
from mergekit_geo.config.training import FITTED, CurveFitConfig
from mergekit_geo.connectivity.paths import ModelPath, path
from mergekit_geo.connectivity.search import CurveSearch, effort_of, path_through
from mergekit_geo.connectivity.state import FitState
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.aim import Aim
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.sample import training_objective
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.stream import stream
from mergekit_geo.selection.segment import PathTo

FLOAT32 = "F32"


def paths_of_kind(
    kind: str, aim: Aim, fitting: CurveFitConfig = CurveFitConfig(), fit_seed: int | None = None
) -> PathTo:
    """Paths of a kind from any point to any model.

    Args:
        kind: `linear`, `slerp`, or one that is fitted.
        aim: By which fits are compared; its evaluator's module is trained.
        fitting: How they are fitted.
        fit_seed: Of the fits; that of the data if None.

    Raises:
        ArgumentError: No such kind, or one that needs training data that there is not.
    """
    if kind not in FITTED:
        straight = path(kind)
        return lambda point, target: straight
    evaluator = aim.evaluator
    study, models = evaluator.study, evaluator.anchors
    train_data = study.train_data
    if train_data is None:
        raise ArgumentError(f"a {kind} path is fitted to training data", remedy="--train-data FILE")
    training = training_objective(train_data, models[0], replace(study.compute, dtype="float32"))
    how, seed = replace(fitting, kind=kind), study.seed if fit_seed is None else fit_seed

    def fit(point: Point, target: int) -> ModelPath:
        pair = evaluator.between_models(_standing(point, models), models[target])
        study.progress.say(f"fitting a path from {point.title} to {models[target].name}")
        search = CurveSearch(Aim(pair, aim.config), training, how, seed, FitState(None, []))
        with study.clock.resting():
            bends = search.run()
        return path_through(bends, effort_of(search.found, how, source_of(train_data)))

    return fit


def _standing(point: Point, models: Sequence[Checkpoint]) -> Checkpoint:
    """A point as a checkpoint: the model that stands there, or its weights in memory."""
    if point.models is not None:
        return models[point.models[0]]
    blend = point.blend(models, FLOAT32)
    sink = MemorySink(blend)
    stream(blend, sink, allow_nonfinite=True)
    return of_state(sink.state, point.title)
