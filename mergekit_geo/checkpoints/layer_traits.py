"""What single layers are, from models that transformers makes without weights.

Loads torch and transformers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.layers import layer_number
from mergekit_geo.checkpoints.loading import load_config, own_class
from mergekit_geo.checkpoints.naming import schema_of

NUMBERING = ("idx", "index", "layer_id", "layer_number", "layer_num", "drop", "training")
"""Parts of the names of attributes that number layers, or have no part in what is computed."""

FIRST = "relative_attention_bias"
"""What the first of T5's blocks has for all."""

Traits = dict[str, object]


@dataclass(frozen=True)
class Mismatch:
    """A layer that would not be what it is taken from.

    Attributes:
        layer: Its number in the output.
        model: Position of the model that it is from.
        number: Of the layer there.
        trait: What is unlike.
        found: In the output.
        expected: In the model.
    """

    layer: int
    model: int
    number: int
    trait: str
    found: object
    expected: object


def mismatches(
    config: Config, configs: Sequence[Config], stack: str, taken: Sequence[tuple[int, int]]
) -> Iterator[Mismatch]:
    """Layers of an output that are not made as those that they are from: one trait of each.

    Nothing where transformers cannot make the models.

    Args:
        config: Of the output.
        configs: Of the models.
        stack: What tensors of the layers are called before their number.
        taken: Model and number of the layer that each one of the output is from.
    """
    made = _traits(config, stack)
    known = [_traits(one, stack) for one in configs]
    for layer, (model, number) in enumerate(taken):
        if made is None or (theirs := known[model]) is None or number >= len(theirs):
            continue
        mine, own = made[layer], theirs[number]
        for trait in sorted(mine.keys() | own.keys()):
            if mine.get(trait) != own.get(trait):
                yield Mismatch(layer, model, number, trait, mine.get(trait), own.get(trait))
                break


def _traits(config: Config, stack: str) -> list[Traits] | None:
    """Plain attributes of all that each layer is made of."""
    loaded = layer_number(schema_of(config).canonical(f"{stack}.0.weight"))
    try:
        architecture: Any = own_class(config["architectures"][0])
        with torch.device("meta"):
            layers = architecture(load_config(config)).get_submodule(loaded[0] if loaded else stack)
        return [dict(_plain(layer)) for layer in layers]
    except Exception:  # whatever a model's own code raises: nothing is known then
        return None


def _plain(layer: Any) -> Iterator[tuple[str, object]]:
    for name, part in layer.named_modules():
        if FIRST in name:
            continue
        yield name, type(part).__name__
        for key, value in vars(part).items():
            named = not key.startswith("_") and not any(one in key for one in (*NUMBERING, FIRST))
            if named and isinstance(value, bool | int | float | str | type(None)):
                yield f"{name}.{key}".lstrip("."), value
