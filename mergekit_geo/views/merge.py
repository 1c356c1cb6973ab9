"""A merged model, and the evidence for it."""

from __future__ import annotations

from statistics import median

from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.merge import MergeMeasurements, SelectionEntry
from mergekit_geo.records.model import Geometry, LayerGeometry, PairGeometry
from mergekit_geo.records.report import Report
from mergekit_geo.views.barrier import barrier_blocks, barrier_files
from mergekit_geo.views.basins import between
from mergekit_geo.views.block import Block, Chart, Folded, Items, Paragraph, Section, Table, View
from mergekit_geo.views.chart import Heatmap, short_name
from mergekit_geo.views.flatness import flatness
from mergekit_geo.views.influence import influence_section
from mergekit_geo.views.losses import losses_section
from mergekit_geo.views.sharpness import sharpness_section
from mergekit_geo.views.stack import stack_table
from mergekit_geo.views.verdict import brief_losses, verdict

STRAIGHT = "linear"
ALIKE, APART, MOST = 0.9, 0.5, 3
"""Median cosine of models that are alike, cosine of a layer that is not, and most named."""


def view(report: Report, found: MergeMeasurements) -> View:
    """View of a merge: parents and output side by side, and what lies between the parents."""
    way = barrier_blocks(
        found.barriers, "between the parents", report.data, _output_at(report, found)
    )
    blocks = [
        losses_section("Losses", report),
        Section("What was chosen", _selection(found.selection)),
        Section("Barriers between the parents", way),
        influence_section(found.influence),
        sharpness_section(found.sharpness, report.data),
        Section("Geometry", _geometry(report, found.geometry)),
        Section("Layers", [stack_table(found.layers)]),
        Section("Tensors", [Items(_tensors(report, found))]),
    ]
    files = barrier_files(found.barriers)
    return View(_headline(report, found), blocks, files, _brief(report, found))


def _headline(report: Report, found: MergeMeasurements) -> list[str]:
    parents = {model.name for model in report.models}
    straight = [e for e in found.barriers if e.along == STRAIGHT and {e.first, e.second} <= parents]
    taken = [_along(entry) for entry in found.barriers if entry.taken is not None]
    why = parted_by(found.geometry) if any(e.significant for e in straight) else ""
    told = [verdict(report), between(straight), why, *taken, flatness(found.sharpness)]
    return [text for text in told if text]


def _brief(report: Report, found: MergeMeasurements) -> list[str]:
    place = f"-> {report.output}" if report.output else "in memory"
    models = ", ".join(model.name for model in report.models)
    return [f"{found.coefficients.method} of {models} {place}", *brief_losses(report)]


def _along(entry: BarrierEntry) -> str:
    return (
        f"It stands at t = {entry.taken:.3f} of a {entry.along} path from {entry.first} to "
        f"{entry.second}: {entry.verdict}."
    )


def _selection(entry: SelectionEntry | None) -> list[Block]:
    """What was chosen by loss; what else was tried, on demand."""
    if entry is None:
        return []
    tried = [[title, f"{loss:.4f}"] for title, loss in sorted(entry.steps)]
    compared = [[title, f"{value:.4g}"] for title, value in entry.sharpness]
    return [
        Paragraph(f"Chosen on {entry.documents} other documents, {entry.method}: {entry.chosen}."),
        Items([f"left out: {text}" for text in entry.left_out]),
        Folded("what was tried", [
            Table(["tried", "loss on the selection half"], tried),
            Table(["compared", "λ_max"], compared),
        ]),
    ]  # fmt: skip


def _output_at(report: Report, found: MergeMeasurements) -> float | None:
    """Where an average of two models stands on the line between them."""
    merged = found.coefficients
    if len(report.models) == 2 and merged.method == STRAIGHT:  # noqa: PLR2004
        first, second = merged.weights
        return second / (first + second) if first + second else None
    return None


def _tensors(report: Report, found: MergeMeasurements) -> list[str]:
    """How many took which branch, and the shares of task vectors that masks kept."""
    merged = found.coefficients
    branches = ", ".join(f"{count} {name}" for name, count in merged.branches.items())
    shares = zip(report.models, merged.kept, strict=False)
    kept = ", ".join(f"{m.name} {share:.2%}" for m, share in shares if share is not None)
    return [f"tensors: {branches}", *([f"kept of the task vectors: {kept}"] if kept else [])]


def _geometry(report: Report, found: Geometry | None) -> list[Block]:
    """Cosines and distances of every pair of models, as a whole and layer by layer."""
    if found is None or len(report.models) == 1:
        return []
    names = [model.name for model in report.models]
    head = ["model", "model", "cosine", "distance", "norms"]
    layers = [[layer.layer, *row] for layer in found.layers for row in _rows(layer, names)]
    return [
        Table(head, _rows(found.total, names)),
        Chart(geometry_picture(found, names, _base(report))),
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


def parted_by(found: Geometry | None) -> str:
    """The layers that lie apart in two models that are alike elsewhere; empty without any.

    So do heads that were initialised by themselves.
    """
    if found is None or not found.total.pairs:
        return ""
    apart: dict[str, float] = {}
    for i in range(len(found.total.pairs)):
        cosines = {layer.layer: layer.pairs[i].cosine or 0.0 for layer in found.layers}
        if median(cosines.values()) >= ALIKE:
            apart |= {name: cosine for name, cosine in cosines.items() if cosine < APART}
    if not apart:
        return ""
    named = ", ".join(f"{name} ({cosine:.2f})" for name, cosine in list(apart.items())[:MOST])
    return (
        f"Parents lie apart in {named} by cosine, and are alike elsewhere: were these layers "
        "initialised separately?"
    )


def _base(report: Report) -> int | None:
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
    values = [[_between(layer.pairs[i], layer, base) for i in places] for layer in found.layers]
    about = f"Of what training from {short[base]} changed: 1 where two models changed alike."
    return Heatmap("cosine of task vectors", rows, columns, values, caption=about)


def _relative(pair: PairGeometry, layer: LayerGeometry) -> float | None:
    mean = (layer.norms[pair.first] + layer.norms[pair.second]) / 2
    return pair.distance / mean if mean > 0 else None


def _between(pair: PairGeometry, layer: LayerGeometry, base: int) -> float | None:
    """Cosine of two task vectors, by the law of cosines; None where one of them is zero."""
    far = {frozenset((each.first, each.second)): each.distance for each in layer.pairs}
    first, second = far[frozenset((base, pair.first))], far[frozenset((base, pair.second))]
    if not first * second:
        return None
    return (first**2 + second**2 - pair.distance**2) / (2 * first * second)
