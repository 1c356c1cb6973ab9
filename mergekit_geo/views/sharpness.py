"""Sharpness of models side by side: how it was measured, tables, bars, spectra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from mergekit_geo.records.curvature import (
    CAVEATS,
    NegativeShare,
    SharpnessEntry,
    SharpnessMeasurements,
    Spectrum,
)
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.records.report import Report
from mergekit_geo.records.sets import OutputSetEntry
from mergekit_geo.views.block import Chart, Items, Paragraph, Section, Table, View, table
from mergekit_geo.views.chart import Distributions, Dot, Dots, Panel, short_name
from mergekit_geo.views.measures import ShownNumber, lambda_max, numbers_of
from mergekit_geo.views.scatter import Stairs

ROUGH = 0.01
"""Relative change of an eigenvalue under half the step that is worth a remark."""

ALIKE = 0.005
"""Share of a number within which all models have the same."""
NOTES = [f"note: {caveat}" for caveat in CAVEATS]

WEIGHTED = "weighted mean"
"""What the mean of several sets' losses, each by its weight, is called."""

NORMAL = 1.96
"""Standard errors to each side of a 95 % interval."""


def view(report: Report, found: SharpnessMeasurements) -> View:
    """View of a sharpness measurement: every model, on the same examples of each set."""
    if not found.sets:
        return View(_headline(found.sharpness), [_section(found.sharpness, report.data, [])])
    sections = [
        _section(one.sharpness, one.data, [], name)
        for name, one in found.sets.items()
        if one.sharpness
    ]
    if found.weighted:
        sections.append(_section(found.weighted, report.data, [], WEIGHTED))
    told = [
        f"{name}: {line}" for name, entries in _by_set(found).items() for line in _headline(entries)
    ]
    return View(told, [*sections, Section("Notes", [Items(NOTES)])])


def _by_set(found: SharpnessMeasurements) -> dict[str, Sequence[SharpnessEntry]]:
    """The mean over the sets first, then each of them."""
    mean = {WEIGHTED: found.weighted} if found.weighted else {}
    return {**mean, **{name: one.sharpness for name, one in found.sets.items()}}


def _headline(entries: Sequence[SharpnessEntry]) -> list[str]:
    return [
        f"{entry.model}: λ_max {lambda_max(entry)}; {entry.stationarity.sentence}."
        for entry in entries
    ]


def sharpness_section(
    entries: Sequence[SharpnessEntry],
    data: DataEntry | None,
    sets: Mapping[str, OutputSetEntry] = {},
) -> Section:
    """Sharpness of models and an output, with a verdict on each; empty without entries.

    Args:
        entries: Of the models.
        data: What loss was measured on, of the first set.
        sets: All of them, where there are several.
    """
    if not entries:
        return Section("Sharpness", ())
    verdicts = [f"{entry.model}: {entry.stationarity.sentence}" for entry in entries]
    found = _section(entries, data, verdicts)
    if not sets:
        return found
    alike = len({(one.data.unit, one.data.task) for one in sets.values()}) == 1
    over = f"the {WEIGHTED} of the losses on {', '.join(sets)}" if alike else next(iter(sets))
    return Section(found.title, [Paragraph(f"Of {over}."), *found.blocks])


def _section(
    entries: Sequence[SharpnessEntry],
    data: DataEntry | None,
    verdicts: Sequence[str],
    name: str = "",
) -> Section:
    """Sharpness of models; on one of several sets, or on their mean, under its name."""
    suffix, unit = name and f"-{name.replace(' ', '-')}", data.unit if data else "example"
    remarks = [remark for entry in entries for remark in _remarks(entry)]
    known = [(entry, entry.spectrum) for entry in entries if entry.spectrum is not None]
    spectra = (
        [Chart(_spectra(known), "Spectra of the models", f"spectrum{suffix}")] if known else []
    )
    return Section(f"Sharpness: {name}" if name else "Sharpness", [
        Paragraph(f"{name and f'{name}: '}{describe_sharpness(entries[0], unit)}"),
        sharpness_table(entries),
        *(replace(chart, name=f"{chart.name}{suffix}") for chart in sharpness_chart(entries)),
        *spectra,
        Items([*remarks, *verdicts, *([] if name else NOTES)]),
    ])  # fmt: skip


def sharpness_table(entries: Sequence[SharpnessEntry]) -> Table:
    """Every number that some model has."""
    shown = {title: [one.text for one in found] for title, found in _side_by_side(entries).items()}
    return table({"model": [entry.model for entry in entries], **shown})


def _side_by_side(entries: Sequence[SharpnessEntry]) -> dict[str, list[ShownNumber]]:
    """The numbers of all models by title; without a value where a model lacks one."""
    found = [numbers_of(entry) for entry in entries]
    titles = dict.fromkeys(title for numbers in found for title in numbers)
    return {title: [one.get(title, ShownNumber(None)) for one in found] for title in titles}


def describe_sharpness(first: SharpnessEntry, unit: str) -> str:
    """How sharpness was measured; the models share sample and settings."""
    slope = first.slope
    count = "" if unit == "example" else f"{slope.tokens} {unit}s, "
    text = (
        f"Sharpness ({first.level}) on {count}{slope.examples} examples, {slope.documents} "
        f"documents, {slope.dtype}, {first.extremes.method}; ± standard error, of an eigenvalue "
        f"over documents (or its residual, if larger); SAM sharpness within {first.rho:g} (a lower "
        "bound)"
    )
    if first.level != "full":
        return f"{text}."
    return (
        f"{text}; adaptive: worst within {first.adaptive_rho:g} of |θ| (a lower bound), mean "
        f"under noise of {first.noise:g} |θ|."
    )


def _remarks(entry: SharpnessEntry) -> Iterator[str]:
    """What a reader of a model's numbers must know."""
    found, name = entry.extremes, entry.model
    if not found.largest.converged:
        yield (
            f"{name}: λ_max has not converged in {found.steps} steps: it is a lower bound, with a "
            f"residual of {found.largest.residual:.1g}"
        )
    if found.smallest and not found.smallest.converged:
        yield f"{name}: λ_min has not converged in {found.steps} steps"
    if entry.spectrum is not None and entry.spectrum.negative is not None:
        yield f"{name}: {_negative(entry.spectrum.negative, entry.slope.parameters)}"
    if found.reason:
        yield f"{name}: {found.method}: {found.reason}"
    if found.step_error is not None and found.step_error > ROUGH:
        yield (
            f"{name}: half the step of the differences changes λ_max by {found.step_error:.0%}: "
            "--level full takes exact products"
        )


def _negative(found: NegativeShare, parameters: int) -> str:
    """Share of negative eigenvalues, and the index that it means."""
    band = "" if found.low is None else f" [{found.low:.2%}, {found.high:.2%}]"
    return (
        f"{found.share:.2%}{band} of the eigenvalues are below -τ = {-found.tau:.3g} (a thousandth "
        f"of λ_max): about {found.share * parameters:,.0f} of {parameters:,}, the index of a "
        "critical point"
    )


def sharpness_chart(entries: Sequence[SharpnessEntry]) -> list[Chart]:
    """Every number in which models differ, beside the range of the parents.

    Nothing where there is one model.
    """
    parents = [entry.role != "output" for entry in entries]
    found = _side_by_side(entries).items()
    panels = [panel for title, numbers in found if (panel := _panel(title, numbers, parents))]
    if len(entries) == 1 or not panels:
        return []
    merged = not all(parents)
    caption = "Lines: 1.96 standard errors to each side, where one is known; axes not from 0."
    caption += " Shaded: the range of the parents. Star: the output." if merged else ""
    names = [short_name(entry.model) for entry in entries]
    picture = Dots(names, [not parent for parent in parents], panels, caption)
    return [Chart(picture, "Sharpness of the models", "sharpness")]


def _panel(title: str, numbers: Sequence[ShownNumber], parents: Sequence[bool]) -> Panel | None:
    """Dots of one number; None where some model lacks it, or all have the same."""
    values = [one.value for one in numbers if one.value is not None]
    if len(values) < len(numbers) or max(values) - min(values) <= ALIKE * max(map(abs, values)):
        return None
    theirs = [value for value, parent in zip(values, parents, strict=True) if parent]
    band = None if all(parents) else (min(theirs), max(theirs))
    return Panel(title, [_dot(one) for one in numbers], band=band)


def _dot(shown: ShownNumber) -> Dot:
    assert shown.value is not None, "a number that all models have"
    if shown.error is None:
        return Dot(shown.value)
    half = NORMAL * shown.error
    return Dot(shown.value, shown.value - half, shown.value + half)


def _spectra(known: Sequence[tuple[SharpnessEntry, Spectrum]]) -> Distributions:
    """Share of the eigenvalues up to each value, with the band over the probes.

    Eigenvalues below a thousandth of the largest are not told apart.
    """
    largest = max(abs(entry.extremes.largest.value) for entry, _ in known)
    axes = "eigenvalue of the Hessian", "share of eigenvalues up to it"
    return Distributions(*axes, [_step(entry.model, found) for entry, found in known],
                 max(largest * 1e-3, 1e-12))  # fmt: skip


def _step(model: str, found: Spectrum) -> Stairs:
    ends = (found.low, found.high)
    band = (ends[0], ends[1]) if ends[0] is not None and ends[1] is not None else None
    return Stairs(short_name(model), found.eigenvalues, found.cumulative, band)
