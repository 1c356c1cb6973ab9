"""What training alone would have brought: the ends of a fitted path, trained further.

Fitting a path is training. Beside a point of it stand its ends after as many steps on the same
batches, with the same optimizer, watched on the same held-out examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mergekit_geo.clock import Clock
from mergekit_geo.connectivity.paths import Effort
from mergekit_geo.connectivity.search import CurveSearch
from mergekit_geo.connectivity.state import FitState
from mergekit_geo.evaluation.aim import Aim
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.evaluation.sample import training_objective
from mergekit_geo.geometry.curves import Still, rule_at
from mergekit_geo.processes import broadcast
from mergekit_geo.selection.selector import Selected
from mergekit_geo.tasks.losses import Losses

TrainedFurther = list[tuple[str, list[Losses]]]
"""A title, and losses on every set."""


@dataclass(frozen=True)
class MatchedComputeBaseline:
    """Trains ends further, where a path was fitted and the time allows.

    Attributes:
        wanted: True whatever it takes, False not at all, None within the time that is left.
    """

    wanted: bool | None

    def run(self, evaluator: PointEvaluator, selection: Selected) -> tuple[TrainedFurther, str]:
        """Losses of the ends after further training on every set, or why there are none.

        Of several segments, the model that all began from is trained for the steps of all fits.
        """
        taken = [found.segment for found in selection.segments]
        efforts = [segment.path.effort for segment in taken if segment.path.bends]
        if not efforts:
            return [], ""
        if self.wanted is False:
            return [], "it was turned off"
        known = [effort for effort in efforts if effort is not None]
        if reason := self._against(evaluator.study.clock, efforts, known):
            return [], reason
        start = taken[0].members[0]
        steps = sum(effort.steps for effort in known)
        ends = [start, taken[0].target] if len(known) == 1 else [start]
        return [self._trained(evaluator, end, known[0], steps) for end in ends], ""

    def _against(
        self, clock: Clock, efforts: Sequence[Effort | None], known: Sequence[Effort]
    ) -> str:
        if len(known) < len(efforts):
            return "the path does not tell what it was fitted on"
        seconds = sum(effort.seconds for effort in known) * (2 if len(known) == 1 else 1)
        left = broadcast(clock.left)
        if self.wanted is None and seconds > left:
            return (
                f"training the ends further would take about {seconds / 60:.1f} minutes, and "
                f"{left / 60:.1f} are left"
            )
        return ""

    def _trained(
        self, evaluator: PointEvaluator, end: int, effort: Effort, steps: int
    ) -> tuple[str, list[Losses]]:
        """Losses of a model after `steps` steps of training from its own weights."""
        model = evaluator.anchors[end]
        pair = evaluator.between_models(model, model)
        fitting = replace(effort.fitting, kind="bezier", bends=1, steps=steps, restarts=1)
        wide = replace(evaluator.study.compute, dtype="float32")
        training = training_objective(effort.train_data, model, wide)
        state = FitState(None, [])
        search = CurveSearch(Aim(pair), training, fitting, effort.seed, state, Still(0.0))
        bends = search.run()
        title = f"{model.name}, trained further"
        there = Point(
            rule_at(bends.curve, 0.0), title, title, extra=bends.anchors, dtype=bends.dtype
        )
        return title, pair.at_all(there)
