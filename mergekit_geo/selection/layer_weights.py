"""`layer_weights.json`: weights of two models by group of layers, as `barrier --by-layer` proposes.

They hold for the models they were chosen on and no others: these are known by a hash of their
files, in either order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.content import checkpoint_digest
from mergekit_geo.checkpoints.layer_groups import joined
from mergekit_geo.errors import ArgumentError, FormatError, IncompatibleError, NotFoundError
from mergekit_geo.files.sound_json import read_json
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.outputs.kind import LAYER_WEIGHTS
from mergekit_geo.records.layers import LayerWeights
from mergekit_geo.records.merge import SelectionEntry
from mergekit_geo.views.amount import listed

VERSION = 1
NAME = "linear by layer"
PAIR = 2
PROPOSES = "geo-merge barrier A B --by-layer --data FILE -o DIR proposes some"


@dataclass(frozen=True)
class LayerRules:
    """A merge by weights of layers.

    Attributes:
        rule: Of tensors that are in no group.
        rules: By tensor, of the others.
        entry: What was chosen, for the report.
        seed: Of the halves of the data that they were chosen on.
        data: Digests of that data.
    """

    rule: Rule
    rules: Mapping[str, Rule]
    entry: SelectionEntry
    seed: int
    data: tuple[str, ...]


def read_layer_weights(place: str | Path) -> LayerWeights:
    """The weights that a folder, or a file, holds.

    Args:
        place: What `barrier --by-layer -o` wrote, or the file in it.

    Raises:
        NotFoundError: There are none.
        FormatError: They are of a later version, or damaged.
    """
    path = Path(place) / LAYER_WEIGHTS if Path(place).is_dir() else Path(place)
    if not path.is_file():
        raise NotFoundError(f"no {LAYER_WEIGHTS}", where=str(place), remedy=PROPOSES)
    found = read_json(path)
    if (version := found.get("version", VERSION)) != VERSION:
        raise FormatError(
            f"weights of version {version}; this release reads {VERSION}", where=str(path)
        )
    try:
        weights = LayerWeights.model_validate(found)
    except ValidationError as error:
        raise FormatError(
            f"not a sound {LAYER_WEIGHTS}: {error.errors()[0]['msg']}", where=str(path)
        ) from error
    counts = {len(weights.models), len(weights.weights), *(len(g.weights) for g in weights.groups)}
    if counts != {PAIR}:
        raise FormatError("expected two models, and two weights in each group", where=str(path))
    return weights


def layer_rules(found: LayerWeights, models: Sequence[Checkpoint], where: str) -> LayerRules:
    """The rules of a merge of two models by these weights.

    Args:
        found: The weights.
        models: Those they were chosen on, in either order.
        where: The weights are from, for errors.

    Raises:
        ArgumentError: They are other models.
        IncompatibleError: A model lacks a tensor that has weights.
    """
    order = _order(found, models, where)
    lost = [n for g in found.groups for n in g.tensors if n not in models[0].tensors]
    if lost:
        raise IncompatibleError([f"{name}: has weights in {where} only" for name in lost])
    rules: dict[str, Rule] = {
        name: _rule(group.weights, order) for group in found.groups for name in group.tensors
    }
    entry = SelectionEntry(
        method="weights by layer", chosen=_told(found), documents=found.documents, steps=[]
    )
    return LayerRules(
        _rule(found.weights, order), rules, entry, found.seed, tuple(found.data.values())
    )


def _rule(weights: Sequence[float], order: Sequence[int]) -> Rule:
    return Linear(tuple(weights[i] for i in order), name=NAME)


def _order(found: LayerWeights, models: Sequence[Checkpoint], where: str) -> tuple[int, ...]:
    """The place of each model among those that the weights are of."""
    known = [one.digest for one in found.models]
    given = [checkpoint_digest(model) for model in models]
    if given == known:
        return (0, 1)
    if given == known[::-1]:
        return (1, 0)
    raise ArgumentError(
        f"these are weights of {listed([one.name for one in found.models])}, as they were then; "
        f"found {listed([model.name for model in models])}",
        where=where,
        remedy="geo-merge barrier A B --by-layer -o DIR proposes weights of these",
    )


def _told(found: LayerWeights) -> str:
    """The weights in words."""
    names = [one.name for one in found.models]
    said: dict[str, list[str]] = {}
    for group in found.groups:
        said.setdefault(_mean(group.weights, names), []).append(group.group)
    own = [f"{joined(groups)}: {weights}" for weights, groups in said.items()]
    return "; ".join([*own, f"all {'else' if own else 'layers'}: {_mean(found.weights, names)}"])


def _mean(weights: Sequence[float], names: Sequence[str]) -> str:
    """Weights with the names of the models, where they count.

    >>> _mean([0.5, 0.5], ["a", "b"]), _mean([1, 0], ["a", "b"])
    ('0.5 a + 0.5 b', 'a')
    """
    if sorted(weights) == [0, 1]:
        return names[list(weights).index(1)]
    return " + ".join(f"{w:.3g} {name}" for w, name in zip(weights, names, strict=True) if w)
