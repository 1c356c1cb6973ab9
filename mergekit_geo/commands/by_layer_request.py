"""A soup of two models by weights of layers that were proposed before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.commands.request import Request
from mergekit_geo.config.data import source_of
from mergekit_geo.errors import ArgumentError
from mergekit_geo.outputs.kind import LAYER_WEIGHTS
from mergekit_geo.selection.layer_weights import LayerRules, layer_rules, read_layer_weights
from mergekit_geo.selection.selector import Selector
from mergekit_geo.specs.spec import Writing


def refuse_beside_layer_weights(others: Sequence[str]) -> None:
    """Refuse other options that weigh the models.

    Args:
        others: Those that are given.

    Raises:
        ArgumentError: There is one.
    """
    if others:
        raise ArgumentError(
            f"--layer-weights gives every layer its weights, and {others[0]} is given, too",
            remedy=f"leave {others[0]} out",
        )


def by_layer_request(
    asked: Writing, place: str | Path, checkpoints: Sequence[Checkpoint]
) -> Request:
    """The merge by the weights that a folder holds.

    Args:
        asked: The options.
        place: The folder.
        checkpoints: The models.

    Raises:
        NotFoundError: There are no weights.
        FormatError: They are damaged.
        ArgumentError: They are of other models.
    """
    weights = read_layer_weights(place)
    found = layer_rules(weights, checkpoints, str(place))
    selector = Selector(found.rule, found.rules, chosen=found.entry)
    beside = {LAYER_WEIGHTS: weights.model_dump_json(indent=1) + "\n"}
    return Request(asked, selector, {}, _on_other_halves(asked, found), files=beside, recipe=None)


def _on_other_halves(asked: Writing, found: LayerRules) -> tuple[str, ...]:
    """A warning where documents that report may be among those that chose."""
    source = source_of(asked.data)
    if source.is_nothing or source.seed == found.seed:
        return ()
    return (
        f"the weights by layer were chosen with seed {found.seed}, and the data is halved with "
        f"seed {source.seed}: documents that chose them may be among those that report",
    )
