"""Which layers did it: rises by group of layers, and the weights that follow from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.content import checkpoint_digest
from mergekit_geo.config.aim import AimConfig
from mergekit_geo.config.data import sets_of, source_of
from mergekit_geo.connectivity.layer_rises import LayerMoves, Rises, groups_of
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.aim import Aim
from mergekit_geo.evaluation.losses import difference
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.evaluation.statistics import paired_difference
from mergekit_geo.outputs.kind import LAYER_WEIGHTS
from mergekit_geo.records.layers import (
    LayerMeasurements,
    LayersEntry,
    LayerWeights,
    ProposalEntry,
    WeightedModel,
)
from mergekit_geo.selection.layer_proposal import OnSet, Proposal, advice, measurements, propose

if TYPE_CHECKING:
    from mergekit_geo.evaluation.study import Study
    from mergekit_geo.records.report import Report
    from mergekit_geo.specs.measures import BarrierSpec

PAIR = 2
LINEAR = "linear"


def check_by_layer(asked: BarrierSpec) -> None:
    """Refuse `--by-layer` where layers do not move along the straight line between two models.

    Raises:
        ArgumentError: There are other than two models, or no straight line among the paths; an aim
            where nothing is chosen, or a set to keep that there is not.
    """
    if not asked.by_layer:
        if not asked.aiming.is_default:
            raise ArgumentError(
                "--aim and --keep say which weights by layer are proposed, and none are",
                remedy="add --by-layer",
            )
        return
    if asked.checkpoints:
        raise ArgumentError(
            "--by-layer moves layers between two models, and --checkpoints follow a training",
            remedy="name two of them without --checkpoints",
        )
    asked.aiming.require_known([one.name for one in sets_of(asked.data)])
    if len(asked.models) != PAIR:
        raise ArgumentError(
            f"--by-layer moves layers between two models, found {len(asked.models)}",
            remedy="name two; the barriers of every pair tell which",
        )
    if LINEAR not in asked.along:
        raise ArgumentError(
            "--by-layer moves layers along the straight line, and --along names "
            f"{', '.join(asked.along)}",
            remedy="add --along linear",
        )


@dataclass(frozen=True)
class ByLayer:
    """A measurement by groups of layers.

    Attributes:
        moves: What is measured.
        proposes: Whether weights are proposed: they are chosen by loss, on data that was named.
        aiming: What loss they are chosen by, of several sets.
    """

    moves: LayerMoves
    proposes: bool
    aiming: AimConfig = AimConfig()

    @classmethod
    def of(cls, study: Study, asked: BarrierSpec) -> ByLayer:
        """The measurement of a study's two models.

        Args:
            study: The models, and what loss is measured on.
            asked: The options.
        """
        names = tuple(model.name for model in study.anchors)
        moves = LayerMoves(names, tuple(groups_of(study.anchors, asked.layer_blocks)))
        return cls(moves, not source_of(asked.data).is_default, asked.aiming)

    def count(self, sets: int) -> int:
        """Number of losses that it takes on each set, for the estimate of the cost.

        Args:
            sets: How many there are: the better model may be another on each.
        """
        models = min(sets, PAIR)
        more = measurements(self.moves, models) if self.proposes else 0
        return self.moves.measurements(models) + more

    def run(self, evaluator: PointEvaluator) -> tuple[LayerMeasurements, LayerWeights | None]:
        """Measure all moves, and what is proposed."""
        rises = Rises.on_all(evaluator, self.moves)
        names = [one.study.name if evaluator.further else "" for one in evaluator.every]
        entries = [one.entry(name) for one, name in zip(rises, names, strict=True)]
        if not self.proposes:
            return LayerMeasurements(sets=entries), None
        sets = [
            OnSet(name, one.better, _loss_on(one.evaluator))
            for one, name in zip(rises, names, strict=True)
        ]
        aim = Aim(evaluator, self.aiming)
        models = sorted({one.better for one in rises})
        found = propose(self.moves, models, aim.value, partial(_beats, evaluator))
        aim.require_kept(found.best.loss)
        said, documents = advice(found, sets), aim.documents
        entries = [_with_proposed(*one, found) for one in zip(entries, rises, strict=True)]
        told = LayerMeasurements(sets=entries, proposal=_proposal(found, said, documents))
        return told, _weights(found, said, documents, evaluator)


def _beats(evaluator: PointEvaluator, first: Point, second: Point) -> bool:
    """Whether one point is significantly better than another on the selection half of some set."""
    for one in evaluator.every:
        rows = one.split.selection
        losses = (one.at(point).take(rows) for point in (first, second))
        high = paired_difference(*losses).estimate.high
        if high is not None and high < 0:
            return True
    return False


def _loss_on(evaluator: PointEvaluator) -> Callable[[Point], float]:
    """Mean loss at a point on the selection half of one set."""
    return lambda point: evaluator.at(point).take(evaluator.split.selection).mean


def write_weights(weights: LayerWeights | None, report: Report, folder: Path) -> None:
    """Write the weights that are proposed beside a report, if any are."""
    if weights is not None:
        (folder / LAYER_WEIGHTS).write_text(weights.model_dump_json(indent=1) + "\n", "utf-8")


def _with_proposed(entry: LayersEntry, rises: Rises, found: Proposal) -> LayersEntry:
    """The entry with differences of the proposed weights from models and mean."""
    evaluator, rows = rises.evaluator, rises.evaluator.split.report
    own = evaluator.at(found.best.point).take(rows)
    points = [rises.moves.of(0), rises.moves.of(1), rises.moves.at_mean]
    titles = [*rises.moves.names, "mean"]
    differences = [
        difference(title, own, evaluator.at(point).take(rows))
        for title, point in zip(titles, points, strict=True)
    ]
    return entry.model_copy(update={"proposed": differences})


def _proposal(found: Proposal, said: str, documents: int) -> ProposalEntry:
    return ProposalEntry(
        models=list(found.moves.names),
        weights=list(found.weights),
        groups=[(group.group, group.weights) for group in found.groups],
        advice=said,
        documents=documents,
        steps=[(one.point.title, one.loss) for one in found.tried],
    )


def _weights(found: Proposal, said: str, documents: int, evaluator: PointEvaluator) -> LayerWeights:
    samples = {one.study.name: one.study.sample for one in evaluator.every}
    return LayerWeights(
        models=[
            WeightedModel(name=anchor.name, digest=checkpoint_digest(anchor))
            for anchor in evaluator.anchors
        ],
        weights=list(found.weights),
        groups=found.groups,
        advice=said,
        documents=documents,
        seed=evaluator.study.seed,
        data={name: sample.digest for name, sample in samples.items() if sample},
    )
