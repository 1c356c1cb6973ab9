"""How much each layer of a model changes what goes through it."""

from __future__ import annotations

from mergekit_geo.records import Record


class LayerInfluence(Record):
    """One layer.

    Attributes:
        layer: Name of its module, such as `model.layers.7`.
        influence: 1 minus the mean cosine of its input and its output, from 0 (nothing changes
            direction) to 2.
    """

    layer: str
    influence: float


class InfluenceEntry(Record):
    """Block influence of all layers of one model (Men et al. 2024).

    Attributes:
        model: Its name.
        tokens: How many tokens the means are over.
        layers: In the order in which they run.
    """

    model: str
    tokens: int
    layers: list[LayerInfluence]
