"""A measurement of barriers, on one evaluation set or on several."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.records.barrier import BarrierMeasurements, BarrierSetEntry
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.records.report import Report
from mergekit_geo.views.barrier import barrier_blocks, barrier_files
from mergekit_geo.views.barrier_sets import Measured, barriers_by_set, files_by_set
from mergekit_geo.views.basins import standing
from mergekit_geo.views.block import Block, Chart, Folded, Section, View
from mergekit_geo.views.chart import Heatmap, short_name
from mergekit_geo.views.geometry import geometry_blocks
from mergekit_geo.views.layers import layers_files, layers_headline, layers_section
from mergekit_geo.views.losses import loss_unit
from mergekit_geo.views.sets import models_by_set
from mergekit_geo.views.stability import curves_of, stability_blocks, stability_lines
from mergekit_geo.views.why import why

PAIR = 2


def view(report: Report, found: BarrierMeasurements) -> View:
    """View of a barrier measurement: every pair of models, along every path."""
    measured = {name: (one.data, one.pairs) for name, one in found.sets.items()}
    sections = [
        models_by_set("Models", found.sets, found.losses, report.data),
        Section("From checkpoint to checkpoint", _stability(report, found)),
        Section("Loss along the paths", _paths(report, found, measured)),
        Section("Every pair", _matrices(report, found)),
        layers_section(found.by_layer, report.data, found.sets),
        Section("Geometry", _geometry(report, found)),
    ]
    files = files_by_set(measured) if measured else barrier_files(found.pairs)
    return View(_headline(report, found), sections, {**files, **layers_files(found.by_layer)})


def _paths(report: Report, found: BarrierMeasurements, measured: Measured) -> list[Block]:
    way = "between the models"
    if measured:
        drawn = {name: curves_of(one) for name, one in found.sets.items()}
        return barriers_by_set(measured, way, drawn=drawn)
    return barrier_blocks(found.pairs, way, report.data, drawn=curves_of(found))


def _geometry(report: Report, found: BarrierMeasurements) -> list[Block]:
    """Where models lie; of a training, whose pairs are many, behind a click."""
    blocks = geometry_blocks(report, found.geometry)
    return blocks if found.stability is None else [Folded("where the checkpoints lie", blocks)]


def _stability(report: Report, found: BarrierMeasurements) -> list[Block]:
    """Barriers along a training, by set; nothing of other models."""
    if not found.sets:
        return stability_blocks(found, report.data)
    return [
        block for name, one in found.sets.items() for block in stability_blocks(one, one.data, name)
    ]


def _headline(report: Report, found: BarrierMeasurements) -> list[str]:
    every: Sequence[BarrierMeasurements | BarrierSetEntry] = list(found.sets.values()) or [found]
    told = [
        f"{name}: {line}"
        for name, one in found.sets.items()
        for line in _said(report, one, briefly=True)
    ]
    parted = any(entry.significant for one in every for entry in one.pairs)
    if found.stability is not None:
        return told or _said(report, found)
    return [
        *(told or _said(report, found)),
        *why(report, found.geometry, parted=parted),
        *layers_headline(found.by_layer),
    ]


def _said(
    report: Report, found: BarrierMeasurements | BarrierSetEntry, *, briefly: bool = False
) -> list[str]:
    """Basins of three models or more, and every pair; with several sets one of both.

    Of a training, from when on it stays in one basin.
    """
    if found.stability is not None:
        return stability_lines(found)
    pairs = [f"{e.first} to {e.second}, {e.along}: {e.verdict}." for e in found.pairs]
    if len(report.models) <= PAIR:
        return pairs
    basins = "; ".join(", ".join(basin) for basin in found.basins)
    count = "One basin" if len(found.basins) == 1 else f"{len(found.basins)} basins"
    sure = all(standing(entry) != "unknown" for entry in found.pairs)
    told = f"{count}{'' if sure else ', as far as can be told'}: {basins}."
    return [told] if briefly else [told, *pairs]


def _matrices(report: Report, found: BarrierMeasurements) -> list[Block]:
    """Barriers of every pair of three models or more, by set."""
    if len(found.losses) <= PAIR or found.stability is not None:
        return []
    if not found.sets:
        return [Chart(matrix(found, report.data), "Barrier of every pair", "matrix")]
    return [
        Chart(matrix(one, one.data), f"Barrier of every pair on {name}", f"matrix-{name}")
        for name, one in found.sets.items()
    ]


def matrix(found: BarrierMeasurements | BarrierSetEntry, data: DataEntry | None) -> Heatmap:
    """Barrier of every pair; nothing of a model with itself."""
    names = [short_name(entry.model) for entry in found.losses]
    values = [
        [None if i == j else value for j, value in enumerate(row)]
        for i, row in enumerate(found.matrix)
    ]
    return Heatmap(
        f"barrier ({loss_unit(data)})", names, names, values,
        caption="0 where the barrier is not significant.",
    )  # fmt: skip
