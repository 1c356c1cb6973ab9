"""Block influence: which layers change their input least."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.records.influence import InfluenceEntry
from mergekit_geo.views.block import Block, Chart, Items, Paragraph, Section
from mergekit_geo.views.chart import Heatmap, short_name

TITLE = "Block influence"
ABOUT = (
    "Block influence of a layer is 1 minus the mean cosine of the hidden states that go in and "
    "those that come out (ShortGPT). Layers of little influence are the first to leave out, and "
    "can be repeated with the least change."
)
NAMED = 2
"""Layers of a model that are named."""


def influence_section(entries: Sequence[InfluenceEntry]) -> Section:
    """Influence of every layer of every model; empty where none was measured."""
    shown = [entry for entry in entries if entry.layers]
    if not shown:
        return Section(TITLE, ())
    found = [{layer.layer: layer.influence for layer in entry.layers} for entry in shown]
    layers = max((list(known) for known in found), key=len)
    blocks: list[Block] = [
        Paragraph(ABOUT),
        Items([_least(entry) for entry in shown]),
        Chart(
            Heatmap(
                "block influence",
                layers,
                [short_name(entry.model) for entry in shown],
                [[known.get(layer) for known in found] for layer in layers],
                log=True,
                caption="Lighter layers change their input less.",
            ),
            "Block influence of every layer",
            "influence",
        ),
    ]
    return Section(TITLE, blocks)


def _least(entry: InfluenceEntry) -> str:
    """The layers that change their input least, in their order.

    >>> from mergekit_geo.records.influence import LayerInfluence
    >>> layers = [LayerInfluence(layer=f"h.{i}", influence=x) for i, x in enumerate([.5, .02, .3])]
    >>> _least(InfluenceEntry(model="a", tokens=9, layers=layers))
    'a: h.1 (0.020) and h.2 (0.300) change their input least, over 9 tokens'
    """
    chosen = sorted(entry.layers, key=lambda layer: layer.influence)[:NAMED]
    said = " and ".join(
        f"{layer.layer} ({layer.influence:.3f})" for layer in entry.layers if layer in chosen
    )
    verb = "change their" if len(chosen) > 1 else "changes its"
    return f"{entry.model}: {said} {verb} input least, over {entry.tokens:,} tokens"
