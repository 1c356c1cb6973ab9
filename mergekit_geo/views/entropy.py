"""Coefficients that the entropy of predictions has found: by model, and by layer."""

from __future__ import annotations

import math

from mergekit_geo.records.entropy import EntropyEntry, EntropySource
from mergekit_geo.views.block import Block, Chart, Folded, Items, Paragraph, Section, Table
from mergekit_geo.views.chart import Heatmap, label, short_name

MANY = 2
"""Layers from which on they are drawn."""


def entropy_section(found: EntropyEntry | None) -> Section:
    """What the search found, and on what; empty without one.

    Args:
        found: The search.
    """
    if found is None:
        return Section("Coefficients by entropy", ())
    told = Paragraph(
        f"Coefficients of the task vectors, one for each model"
        f"{' and tensor' if found.granularity == 'tensor' else ''}, from {found.start:g} by "
        f"{found.steps} steps of Adam (learning rate {found.learning_rate:g}) on the entropy of "
        f"predictions; no label was looked at. {found.classes} classes have an entropy of at most "
        f"{math.log(found.classes):.4f} nats."
    )
    blocks: list[Block] = [told, Items([_source(one) for one in found.sources]), _models(found)]
    layers = list(found.models[0].layers)
    if len(layers) >= MANY:
        title = "Coefficient of each model's task vector, by layer"
        blocks.append(Chart(_heatmap(found, layers), title, "coefficients"))
        blocks.append(Folded("coefficients by layer", [_layers(found, layers)]))
    return Section("Coefficients by entropy", blocks)


def _source(one: EntropySource) -> str:
    half = f", the {one.half} half" if one.half else ""
    left_out = (
        f"; {one.left_out} more are left out, since losses are reported on them"
        if one.left_out
        else ""
    )
    return (
        f"{one.source}: {one.examples} examples{half}, mean entropy {one.before:.4f} nats at the "
        f"start, {one.after:.4f} at the end{left_out}"
    )


def _models(found: EntropyEntry) -> Table:
    rows = [
        [short_name(one.model), f"{one.mean:.3f}", f"{one.least:.3f}", f"{one.largest:.3f}"]
        for one in found.models
    ]
    return Table(["model", "mean coefficient", "least", "largest"], rows)


def _heatmap(found: EntropyEntry, layers: list[str]) -> Heatmap:
    values = [[one.layers[layer] for one in found.models] for layer in layers]
    caption = "Mean over the tensors of each layer; 0 leaves a layer as it is in the base."
    names = [label(one.model) for one in found.models]
    return Heatmap(
        "coefficient", [label(layer) for layer in layers], names, values, caption=caption
    )


def _layers(found: EntropyEntry, layers: list[str]) -> Table:
    rows = [[layer, *(f"{one.layers[layer]:.3f}" for one in found.models)] for layer in layers]
    return Table(["layer", *(short_name(one.model) for one in found.models)], rows)
