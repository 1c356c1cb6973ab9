"""Whether the layers of a stack make a model: kinds, numbers, shapes, and what no layer has."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.layers import layer_number
from mergekit_geo.checkpoints.naming import Schema, schema_of
from mergekit_geo.checkpoints.parts import predictors
from mergekit_geo.checkpoints.reshape.each_layer import Unlike
from mergekit_geo.errors import RecipeError
from mergekit_geo.merging.stack import StackedLayer
from mergekit_geo.recipes.stack_names import Sources

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.layer_traits import Mismatch


def check_kinds(unlike: Sequence[Unlike], anchors: Sequence[Checkpoint]) -> None:
    """Refuse layers that are to be merged, and of which configurations say unlike things.

    Raises:
        RecipeError: With the two layers.
    """
    for one in unlike:
        (a, i), (b, j) = one.sources
        raise RecipeError(
            f"layer {i} of {anchors[a].name} has {one.key} {one.values[0]} and layer {j} of "
            f"{anchors[b].name} {one.values[1]}: layers of two kinds are not merged",
            where="slices",
            remedy="give the slice layers of one kind",
        )


def check_parted(
    parted: Collection[str], layers: Sequence[StackedLayer], checkpoint: Checkpoint, depth: int
) -> None:
    """Refuse layers in another order where tensors outside them have a part for each.

    Args:
        parted: Names of these, as they are loaded.
        layers: Of one stack of the output.
        checkpoint: The first model.
        depth: Its layers.

    Raises:
        RecipeError: With one of them.
    """
    in_place = all(number == layer.number for layer in layers for _, number in layer.sources)
    if parted and not (in_place and len(layers) == depth):
        raise RecipeError(
            f"{min(parted)} of {checkpoint.name} has a part for each layer, and such tensors are "
            "not cut and joined",
            where="slices",
            remedy="slices of this architecture keep all layers in their places",
        )


def fit(
    made_of: dict[str, Sources],
    layers: Sequence[StackedLayer],
    anchors: Sequence[Checkpoint],
    config: Config,
) -> tuple[str, ...]:
    """Leave out what no layer of the output has, and take what a first layer alone has from one.

    So have T5's first blocks the relative positions of all. Tells what was left out.

    Args:
        made_of: By tensor of the output; changed in place.
        layers: Of the output.
        anchors: The models.
        config: Of the output.
    """
    schema = schema_of(config)
    if not schema.expected:
        return ()
    left_out = _leave_out_idle(made_of, schema)
    _take_from_first_layers(made_of, layers, anchors, schema)
    if not left_out:
        return ()
    return (
        f"{len(left_out)} tensors that no layer of the output has are left out ({left_out[0]})",
    )


def _leave_out_idle(made_of: dict[str, Sources], schema: Schema) -> list[str]:
    apart = predictors(made_of)
    found = [
        name for name in made_of if name not in apart and _is_idle(schema.canonical(name), schema)
    ]
    for name in found:
        del made_of[name]
    return found


def _take_from_first_layers(
    made_of: dict[str, Sources],
    layers: Sequence[StackedLayer],
    anchors: Sequence[Checkpoint],
    schema: Schema,
) -> None:
    own = {schema.canonical(name) for name in made_of}
    taken = {(layer.stack, layer.number): layer.sources for layer in layers}
    for loaded in (name for name in schema.expected if name not in own):
        place = layer_number(loaded)
        sources = [(model, loaded) for model, _ in taken.get(place, ())] if place else []
        if sources and all(loaded in anchors[model].tensors for model, _ in sources):
            made_of[loaded] = sources


def _is_idle(loaded: str, schema: Schema) -> bool:
    return layer_number(loaded) is not None and schema.is_superfluous(loaded)


def mismatched(
    config: Config, layers: Sequence[StackedLayer], anchors: Sequence[Checkpoint]
) -> Iterator[str]:
    """Warnings of numbers that are not those of the layers that were taken.

    Args:
        config: Of the output.
        layers: Of the output.
        anchors: The models.

    Raises:
        RecipeError: A layer would be of another kind than the one that it is from.
        IncompatibleError: transformers cannot make a model of these layers.
    """
    if not config.get("architectures"):
        return
    from mergekit_geo.checkpoints.layer_traits import mismatches  # loads torch

    found: dict[str, list[Mismatch]] = {}
    for stack in dict.fromkeys(layer.stack for layer in layers):
        taken = [layer.sources[0] for layer in layers if layer.stack == stack]
        for one in mismatches(config, [anchor.config for anchor in anchors], stack, taken):
            found.setdefault(one.trait, []).append(one)
    for one, *others in found.values():
        more = f", and {len(others)} more layers likewise" if others else ""
        said = (
            f"layer {one.layer} of the output has {one.trait} {one.found}, and layer {one.number} "
            f"of {anchors[one.model].name}, which it is from, {one.expected}{more}: the "
            "architecture makes layers by their number"
        )
        if not one.is_number:
            remedy = "take layers so that those of each kind come to places of that kind"
            raise RecipeError(said, where="slices", remedy=remedy)
        yield said
