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
from mergekit_geo.errors import IncompatibleError

NUMBERING = ("idx", "index", "layer_id", "layer_number", "layer_num", "drop", "training",
             "store_full_length_kv")  # fmt: skip
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

    @property
    def is_number(self) -> bool:
        """Whether it is one that layers compute with, and not of what kind they are."""
        return isinstance(self.found, float) or self.trait.endswith("num_hidden_layers")


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

    Raises:
        IncompatibleError: transformers makes all of the models, and not the output.
    """
    known = [_known(one, stack) for one in configs]
    try:
        made = _traits(config, stack)
    except Exception as error:  # whatever a model's own code raises
        if None in known:
            return
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise IncompatibleError(
            [f"transformers makes no model of these layers: {line}"],
            remedy="take other layers, or all of them",
        ) from error
    for layer, (model, number) in enumerate(taken):
        if (theirs := known[model]) is None or number >= len(theirs):
            continue
        mine, own = made[layer], theirs[number]
        for trait in sorted(mine.keys() | own.keys()):
            if mine.get(trait) != own.get(trait):
                yield Mismatch(layer, model, number, trait, mine.get(trait), own.get(trait))
                break


def _known(config: Config, stack: str) -> list[Traits] | None:
    try:
        return _traits(config, stack)
    except Exception:  # whatever a model's own code raises: nothing is known then
        return None


def _traits(config: Config, stack: str) -> list[Traits]:
    """Plain attributes of all that each layer is made of."""
    loaded = layer_number(schema_of(config).canonical(f"{stack}.0.weight"))
    architecture: Any = own_class(config["architectures"][0])
    with torch.device("meta"):
        layers = architecture(load_config(config)).get_submodule(loaded[0] if loaded else stack)
    return [dict(_plain(layer)) for layer in layers]


def _plain(layer: Any) -> Iterator[tuple[str, object]]:
    for name, part in layer.named_modules():
        if FIRST in name or "drop" in name:
            continue
        yield name, type(part).__name__
        for key, value in vars(part).items():
            named = not key.startswith("_") and not any(one in key for one in (*NUMBERING, FIRST))
            if named and isinstance(value, bool | int | float | str | type(None)):
                yield f"{name}.{key}".lstrip("."), value
