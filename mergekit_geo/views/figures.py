"""Pictures of a report, drawn from it and from nothing else; and CSV of what they show."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.records.barrier import BarrierEntry, BarrierMeasurements
from mergekit_geo.records.curvature import SharpnessEntry
from mergekit_geo.views.measures import MEASURES, Measure
from mergekit_geo.views.palette import COLOURS, colours, short_name
from mergekit_geo.views.tables import loss_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED = "#1b1b1b", "#8a8a8a"
FORMATS = ("png", "svg")
DPI = 150


def write_barriers(entries: Sequence[BarrierEntry], folder: Path) -> None:
    """Curves as `barrier.png`, `.svg` and `.csv` in a folder that is there."""
    _save(barrier_figure(entries), folder / "barrier")
    (folder / "barrier.csv").write_text(barrier_csv(entries), "utf-8")


def write_matrix(measured: BarrierMeasurements, folder: Path) -> None:
    """The heat map of all pairs as `matrix.png` and `.svg`."""
    _save(matrix_figure(measured), folder / "matrix")


def write_sharpness(entries: Sequence[SharpnessEntry], folder: Path) -> None:
    """Models side by side as `sharpness.png` and `.svg`, spectra as `spectrum.png` and `.svg`."""
    _save(sharpness_figure(entries), folder / "sharpness")
    measured = [entry for entry in entries if entry.spectrum is not None]
    if measured:
        _save(spectrum_figure(measured), folder / "spectrum")


def sharpness_figure(entries: Sequence[SharpnessEntry]) -> Figure:
    """Every measure that all models have, side by side: bars, with errors where they are known."""
    from matplotlib.figure import Figure

    panels = [panel for panel in map(_panel, repeat(entries), MEASURES) if panel]
    columns = min(len(panels), 4)
    rows = math.ceil(len(panels) / columns)
    height = 0.9 + 0.32 * len(entries)
    figure = Figure(figsize=(2.6 * columns + 1.2, height * rows), layout="constrained")
    names = [_short(entry.model) for entry in entries]
    for index, (title, values, errors) in enumerate(panels):
        axes = _plain(figure.add_subplot(rows, columns, index + 1))
        colours = [INK if entry.role == "output" else COLOURS[0] for entry in entries]
        places = range(len(names))  # two models may have one short name
        axes.barh(places, values, xerr=errors, color=colours, ecolor=MUTED, height=0.6)
        axes.set_yticks(places, [] if index % columns else names)
        axes.invert_yaxis()
        axes.set_title(title, fontsize=9, loc="left")
        axes.locator_params(axis="x", nbins=4)
    return figure


def spectrum_figure(entries: Sequence[SharpnessEntry]) -> Figure:
    """How many eigenvalues lie above each value, with the band over the probes."""
    figure, axes = _figure(7.0, 4.2)
    for colour, entry in zip(colours(len(entries)), entries, strict=True):
        found = entry.spectrum
        assert found is not None
        axes.step(found.eigenvalues, found.cumulative, where="post", color=colour, linewidth=1.6,
                  label=_short(entry.model))  # fmt: skip
        if found.low is not None and found.high is not None:
            axes.fill_between(
                found.eigenvalues, found.low, found.high, step="post", color=colour, alpha=0.2
            )
    axes.set_xscale("symlog", linthresh=_linear_up_to(entries))
    axes.set_xlabel("eigenvalue of the Hessian")
    axes.set_ylabel("share of eigenvalues up to it")
    axes.legend(frameon=False, fontsize=8, loc="best")
    return figure


def _linear_up_to(entries: Sequence[SharpnessEntry]) -> float:
    """Eigenvalues below a thousandth of the largest are not told apart."""
    largest = max(abs(entry.extremes.largest.value) for entry in entries)
    return max(largest * 1e-3, 1e-12)


Panel = tuple[str, list[float], list[float] | None]


def _panel(entries: Sequence[SharpnessEntry], measure: Measure) -> Panel | None:
    """Title, values and errors; None where some model lacks the measure."""
    values = [measure.value(entry) for entry in entries]
    errors = [measure.error(entry) for entry in entries]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    sure = [error for error in errors if error is not None]
    return measure.title, known, sure if len(sure) == len(values) else None


def barrier_figure(entries: Sequence[BarrierEntry]) -> Figure:
    """Loss along every path, its ends, the chord between them, and the barrier's interval."""
    figure, axes = _figure(7.0, 4.2)
    for colour, entry in zip(colours(len(entries)), entries, strict=True):
        _curve(axes, entry, colour)
    axes.set_xlabel("t")
    axes.set_ylabel(loss_axis(entries))
    axes.set_xlim(-0.02, 1.02)
    axes.legend(frameon=False, fontsize=8, loc="best")
    return figure


def matrix_figure(measured: BarrierMeasurements) -> Figure:
    """Barrier of every pair."""
    names = [_short(entry.model) for entry in measured.losses]
    side = 1.6 + 0.8 * len(names)
    figure, axes = _figure(side + 1.2, side)
    heights = [[math.nan if x is None else x for x in row] for row in measured.matrix]
    image = axes.imshow(heights, cmap="magma_r", vmin=0)
    most = max(x or 0.0 for row in measured.matrix for x in row) or 1.0
    for i, row in enumerate(heights):
        for j, value in enumerate(row):
            shade = "white" if value > most / 2 else INK
            axes.text(j, i, f"{value:.3f}", ha="center", va="center", color=shade, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="barrier")
    return figure


def barrier_csv(entries: Sequence[BarrierEntry]) -> str:
    """One row a point: first, second, along, t, loss, metric."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["first", "second", "along", "t", "loss", "metric"])
    for entry in entries:
        metric = entry.metric or [None] * len(entry.t)
        for t, loss, score in zip(entry.t, entry.loss, metric, strict=True):
            writer.writerow([entry.first, entry.second, entry.along, t, loss, score])
    return text.getvalue()


def _curve(axes: Axes, entry: BarrierEntry, colour: str) -> None:
    points = [(t, x) for t, x in zip(entry.t, entry.loss, strict=True) if x is not None]
    ts, losses = zip(*points, strict=True)
    label = f"{_short(entry.first)} to {_short(entry.second)}, {_short(entry.along)}"
    axes.plot(ts, losses, "-o", color=colour, markersize=3, linewidth=1.6, label=label)
    ends = [ts[0], ts[-1]], [losses[0], losses[-1]]
    axes.plot(*ends, "--", color=colour, linewidth=0.9, alpha=0.6)
    axes.plot(*ends, "s", color=colour, markersize=6)
    if entry.taken is not None:
        height = dict(points)[entry.taken]
        axes.plot(entry.taken, height, "*", color=INK, markersize=12, label="taken", zorder=3)
    barrier = entry.barrier
    if barrier.low is not None and barrier.high is not None and entry.t_max is not None:
        chord = (1 - entry.t_max) * losses[0] + entry.t_max * losses[-1]
        axes.vlines(
            entry.t_max,
            chord + barrier.low,
            chord + barrier.high,
            color=colour,
            linewidth=5,
            alpha=0.25,
        )


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, _plain(figure.add_subplot())


def _plain(axes: Axes) -> Axes:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(visible=True, color=MUTED, alpha=0.2, linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def _save(figure: Figure, stem: Path) -> None:
    for form in FORMATS:
        figure.savefig(
            stem.with_suffix(f".{form}"), dpi=DPI, metadata=_undated(form), bbox_inches="tight"
        )


def _undated(form: str) -> dict[str, None] | None:
    """Metadata without a date, so that the same numbers give the same file."""
    return {"Date": None} if form == "svg" else None


def _short(name: str) -> str:
    """A model's name without folders; matplotlib reads `$` as mathematics."""
    return short_name(name).replace("$", r"\$")
