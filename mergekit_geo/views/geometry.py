"""Where models lie in weight space: tables and a picture."""

from __future__ import annotations

from mergekit_geo.records.model import Geometry, LayerGeometry, PairGeometry
from mergekit_geo.records.report import Report
from mergekit_geo.views.block import Block, Chart, Folded, Table
from mergekit_geo.views.chart import Heatmap, short_name


def geometry_blocks(report: Report, found: Geometry | None) -> list[Block]:
    """Cosines and distances of every pair of models, as a whole and layer by layer."""
    if found is None or len(report.models) == 1:
        return []
    names = [model.name for model in report.models]
    head = ["model", "model", "cosine", "distance", "norms"]
    layers = [[layer.layer, *row] for layer in found.layers for row in _rows(layer, names)]
    return [
        Table(head, _rows(found.total, names)),
        Chart(geometry_picture(found, names, base_of(report))),
        Folded("every layer", [Table(["layer", *head], layers)]),
    ]


def _rows(layer: LayerGeometry, names: list[str]) -> list[list[str]]:
    return [
        [
            names[pair.first],
            names[pair.second],
            "undefined" if pair.cosine is None else f"{pair.cosine:.6f}",
            f"{pair.distance:.4g}",
            f"{layer.norms[pair.first]:.4g}, {layer.norms[pair.second]:.4g}",
        ]
        for pair in layer.pairs
    ]


def base_of(report: Report) -> int | None:
    """Which of three models or more task vectors start at; None where none is known."""
    said = report.settings.get("base") or (report.settings.get("recipe") or {}).get("base_model")
    names = [model.name for model in report.models]
    return names.index(said) if said in names and len(names) > 2 else None  # noqa: PLR2004


def geometry_picture(found: Geometry, names: list[str], base: int | None) -> Heatmap:
    """A row for each layer, a column for each pair: of task vectors where there is a base."""
    short = [short_name(name) for name in names]
    pairs = [pair for pair in found.total.pairs if base not in (pair.first, pair.second)]
    columns = [f"{short[pair.first]} · {short[pair.second]}" for pair in pairs]
    places = [found.total.pairs.index(pair) for pair in pairs]
    rows = [layer.layer for layer in found.layers]
    if base is None:
        values = [[_relative(layer.pairs[i], layer) for i in places] for layer in found.layers]
        return Heatmap("distance / mean norm", rows, columns, values, log=True)
    values = [[task_cosine(layer.pairs[i], layer, base) for i in places] for layer in found.layers]
    about = f"Of what training from {short[base]} changed: 1 where two models changed alike."
    return Heatmap("cosine of task vectors", rows, columns, values, caption=about)


def _relative(pair: PairGeometry, layer: LayerGeometry) -> float | None:
    mean = (layer.norms[pair.first] + layer.norms[pair.second]) / 2
    return pair.distance / mean if mean > 0 else None


def task_cosine(pair: PairGeometry, layer: LayerGeometry, base: int) -> float | None:
    """Cosine of two task vectors, by the law of cosines; None where one of them is zero."""
    far = {frozenset((each.first, each.second)): each.distance for each in layer.pairs}
    first, second = far[frozenset((base, pair.first))], far[frozenset((base, pair.second))]
    if not first * second:
        return None
    return (first**2 + second**2 - pair.distance**2) / (2 * first * second)
