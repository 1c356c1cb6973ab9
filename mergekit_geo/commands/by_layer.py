"""Which layers did it: rises by group of layers, and the weights that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.content import checkpoint_digest
from mergekit_geo.config.data import source_of
from mergekit_geo.connectivity.layer_rises import LayerMoves, Rises, groups_of
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.losses import difference
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.outputs.kind import LAYER_WEIGHTS
from mergekit_geo.records.layers import (
    LayerMeasurements,
    LayersEntry,
    LayerWeights,
    ProposalEntry,
    WeightedModel,
)
from mergekit_geo.selection.layer_proposal import Proposal, advice, measurements, propose

if TYPE_CHECKING:
    from mergekit_geo.evaluation.point import Point
    from mergekit_geo.evaluation.study import Study
    from mergekit_geo.records.report import Report
    from mergekit_geo.specs.measures import BarrierSpec

PAIR = 2
LINEAR = "linear"


def check_by_layer(asked: BarrierSpec) -> None:
    """Refuse `--by-layer` where layers do not move along the straight line between two models.

    Raises:
        ArgumentError: There are other than two models, or no straight line among the paths.
    """
    if not asked.by_layer:
        return
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
    """

    moves: LayerMoves
    proposes: bool

    @classmethod
    def of(cls, models: Sequence[Checkpoint], study: Study, most: int) -> ByLayer:
        """The measurement of two models.

        Args:
            models: Under the same tensor names.
            study: What loss is measured on.
            most: Blocks of consecutive layers.
        """
        names = tuple(model.name for model in models)
        moves = LayerMoves(names, tuple(groups_of(models, most)))
        return cls(moves, not source_of(study.data).is_default)

    @property
    def count(self) -> int:
        """Number of losses that it takes, for the estimate of the cost."""
        return self.moves.measurements() + (measurements(self.moves, 1) if self.proposes else 0)

    def run(self, evaluator: PointEvaluator) -> tuple[LayerMeasurements, LayerWeights | None]:
        """Measure all moves, and what is proposed."""
        rises = Rises.measured(evaluator, self.moves)
        if not self.proposes:
            return LayerMeasurements(sets=[rises.entry()]), None
        half = evaluator.split.selection

        def loss_of(point: Point) -> float:
            return evaluator.at(point).take(half).mean

        found = propose(self.moves, [rises.better], loss_of)
        entry = _with_proposed(rises, found)
        said = advice(found, rises.better)
        told = LayerMeasurements(sets=[entry], proposal=_proposal(found, said, evaluator.documents))
        return told, _weights(found, said, evaluator)


def write_weights(weights: LayerWeights | None, report: Report, folder: Path) -> None:
    """Write the weights that are proposed beside a report, if any are."""
    if weights is not None:
        (folder / LAYER_WEIGHTS).write_text(weights.model_dump_json(indent=1) + "\n", "utf-8")


def _with_proposed(rises: Rises, found: Proposal) -> LayersEntry:
    """The entry with differences of the proposed weights from models and mean."""
    evaluator, rows = rises.evaluator, rises.evaluator.split.report
    own = evaluator.at(found.best.point).take(rows)
    points = [rises.moves.of(0), rises.moves.of(1), rises.moves.at_mean]
    titles = [*rises.moves.names, "mean"]
    differences = [
        difference(title, own, evaluator.at(point).take(rows))
        for title, point in zip(titles, points, strict=True)
    ]
    return rises.entry().model_copy(update={"proposed": differences})


def _proposal(found: Proposal, said: str, documents: int) -> ProposalEntry:
    return ProposalEntry(
        models=list(found.moves.names),
        weights=list(found.weights),
        groups=[(group.group, group.weights) for group in found.groups],
        advice=said,
        documents=documents,
        steps=[(one.point.title, one.loss) for one in found.tried],
    )


def _weights(found: Proposal, said: str, evaluator: PointEvaluator) -> LayerWeights:
    sample = evaluator.study.sample
    return LayerWeights(
        models=[
            WeightedModel(name=anchor.name, digest=checkpoint_digest(anchor))
            for anchor in evaluator.anchors
        ],
        weights=list(found.weights),
        groups=found.groups,
        advice=said,
        documents=evaluator.documents,
        seed=evaluator.study.seed,
        data={"": sample.digest} if sample else {},
    )
