"""A merge whose layers are not those of its models one for one: another architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.merging.blend import Blend
from mergekit_geo.records.merge import LayerSources


@dataclass(frozen=True)
class StackedLayer:
    """A layer of the output.

    Attributes:
        stack: What tensors of the layers are called before their number.
        number: From 0.
        sources: Position and layer of each model that it is made of, the base first.
    """

    stack: str
    number: int
    sources: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Stack:
    """What is merged where layers are left out, repeated or moved.

    Attributes:
        blend: Of views of the models; one and the same model can be several of its anchors.
        layers: Every layer of the output.
        warnings: What the user should know.
        notes: What was left out.
    """

    blend: Blend
    layers: tuple[StackedLayer, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def entries(self, names: Sequence[str]) -> list[LayerSources]:
        """Where each layer is from, for reports.

        Args:
            names: Of the models.
        """
        return [
            LayerSources(
                layer=f"{layer.stack}.{layer.number}",
                sources=[(names[model], number) for model, number in layer.sources],
            )
            for layer in self.layers
        ]


class StackPlan(Protocol):
    """Says which layers of models make an output."""

    def of(self, anchors: Sequence[Checkpoint], dtype: str | None) -> Stack:
        """Make the stack of models under one model's tensor names.

        Raises:
            GeoError: The layers do not make a model.
        """
