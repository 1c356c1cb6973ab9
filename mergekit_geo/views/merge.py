"""A merged model, and the evidence for it."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.records.merge import MergeMeasurements, SelectionEntry
from mergekit_geo.records.report import Report
from mergekit_geo.views.barrier_sets import barrier_files_of, barriers_of
from mergekit_geo.views.basins import between, between_by_set
from mergekit_geo.views.block import Block, Folded, Items, Paragraph, Section, Table, View
from mergekit_geo.views.entropy import entropy_section
from mergekit_geo.views.examples import examples_section
from mergekit_geo.views.flatness import flatness
from mergekit_geo.views.geometry import geometry_blocks
from mergekit_geo.views.influence import influence_section
from mergekit_geo.views.layers import layers_files, layers_headline, layers_section
from mergekit_geo.views.search import search_files, search_section
from mergekit_geo.views.search_words import last_word, search_headline
from mergekit_geo.views.sets import brief_losses, measured_section
from mergekit_geo.views.sharpness import sharpness_section
from mergekit_geo.views.stack import stack_table
from mergekit_geo.views.statistics import statistics_section
from mergekit_geo.views.sweep import sweep_files, sweep_section
from mergekit_geo.views.verdict import is_worse, verdict_lines
from mergekit_geo.views.why import why

STRAIGHT = "linear"
WISE = "wise-ft"


def view(report: Report, found: MergeMeasurements) -> View:
    """View of a merge: parents and output side by side, and what lies between the parents."""
    output_at = _output_at(report, found)
    blocks = [
        measured_section("Losses", report),
        sweep_section(found.sweep, _data_of(report, found)),
        entropy_section(found.entropy),
        search_section(found.search, report.data, found.sets),
        examples_section(found),
        Section("What was chosen", _selection(None if found.search else found.selection)),
        Section("Barriers between the parents", barriers_of(
            report, found, "between the parents", output_at
        )),
        layers_section(found.by_layer, report.data, found.sets, folded=True),
        influence_section(found.influence),
        sharpness_section(found.sharpness, report.data, found.sets),
        statistics_section(found.statistics),
        Section("Geometry", geometry_blocks(report, found.geometry)),
        Section("Layers", [stack_table(found.layers)]),
        Section("Tensors", [Items(_tensors(report, found))]),
    ]  # fmt: skip
    files = {
        **barrier_files_of(found), **layers_files(found.by_layer), **search_files(found.search),
        **sweep_files(found.sweep),
    }  # fmt: skip
    return View(
        _headline(report, found), blocks, files, _brief(report, found),
        last=last_word(found.search),
    )  # fmt: skip


def _data_of(report: Report, found: MergeMeasurements) -> dict[str, DataEntry]:
    """What each set is, by its name; of one alone, by none."""
    if found.sets:
        return {name: one.data for name, one in found.sets.items()}
    return {} if report.data is None else {"": report.data}


def _headline(report: Report, found: MergeMeasurements) -> list[str]:
    every = {name: one.barriers for name, one in found.sets.items()} or {"": found.barriers}
    straight = {name: _straight(report, entries) for name, entries in every.items()}
    taken = [_along(entry) for entry in found.barriers if entry.taken is not None]
    significant = any(entry.significant for entries in straight.values() for entry in entries)
    parted = significant or is_worse(report)
    told = [
        *verdict_lines(report),
        *search_headline(found.search),
        *(between_by_set(straight) if found.sets else [between(straight[""])]),
        *why(report, found.geometry, parted=parted),
        *layers_headline(found.by_layer),
        *taken,
        flatness(found.sharpness),
    ]
    return [text for text in told if text]


def _straight(report: Report, entries: Sequence[BarrierEntry]) -> list[BarrierEntry]:
    """The straight lines between parents, among all paths."""
    parents = {model.name for model in report.models}
    return [e for e in entries if e.along == STRAIGHT and {e.first, e.second} <= parents]


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
    if len(merged.weights) == 2 and merged.method in {STRAIGHT, WISE}:  # noqa: PLR2004
        first, second = merged.weights
        return second / (first + second) if first + second else None
    return None


def _tensors(report: Report, found: MergeMeasurements) -> list[str]:
    """How many took which branch, and the shares of task vectors that masks kept."""
    merged = found.coefficients
    branches = ", ".join(f"{count} {name}" for name, count in merged.branches.items())
    shares = zip(report.models, merged.kept, strict=False)
    kept = ", ".join(f"{m.name} {share:.2%}" for m, share in shares if share is not None)
    error = merged.error
    return [
        f"tensors: {branches}",
        *([f"kept of the task vectors: {kept}"] if kept else []),
        *([] if error is None else [f"largest relative error of a matrix: {error:.1e}"]),
    ]
