"""What a report says first, in words: a few sentences, each with the numbers it rests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mergekit_geo.reports.finetune import FinetuneMeasurements, MembersMeasurements
from mergekit_geo.reports.landscape import LandscapeMeasurements
from mergekit_geo.reports.landscape_text import landscape_lines
from mergekit_geo.reports.losses import BarrierEntry
from mergekit_geo.reports.path import PathMeasurements
from mergekit_geo.reports.schema import (
    BarrierMeasurements,
    CheckMeasurements,
    MergeMeasurements,
    Report,
)
from mergekit_geo.reports.sharpness import SharpnessEntry, SharpnessMeasurements
from mergekit_geo.reports.tables import estimate, path_lines, training_lines, verdict

ONE_BASIN = "No significant barrier stands between the parents: they lie in one basin."


def headline(report: Report) -> list[str]:
    """Sentences, the most important first; empty where nothing was measured."""
    make = HEADLINES.get(type(report.result))
    return [] if make is None else [text for text in make(report, report.result) if text]


def flatness(entries: Sequence[SharpnessEntry]) -> str:
    """How the output's λ_max compares with its parents'; empty without both.

    Eigenvalues are told apart where they differ by more than their residuals.
    """
    outputs = [entry for entry in entries if entry.role == "output"]
    parents = [entry.extremes.largest for entry in entries if entry.role == "parent"]
    if not outputs or not parents:
        return ""
    own = outputs[0].extremes.largest
    values = [parent.value for parent in parents]
    numbers = f"λ_max {own.value:.4g} against {_range(values)}"
    if all(own.value + own.residual < p.value - p.residual for p in parents):
        return f"It is flatter than {_every(values)}: {numbers}."
    if all(own.value - own.residual > p.value + p.residual for p in parents):
        return f"It is sharper than {_every(values)}: {numbers}."
    return f"It is about as sharp as its parents: {numbers}."


def _every(values: Sequence[float]) -> str:
    return "its parent" if len(values) == 1 else "every parent"


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return low if low == high else f"{low} to {high}"


def _merge(report: Report, result: MergeMeasurements) -> list[str]:
    straight = [entry for entry in result.barriers if entry.taken is None]
    return [
        _loss(report, result),
        _between(straight),
        *(_along(entry) for entry in result.barriers if entry.taken is not None),
        flatness(result.sharpness),
    ]


def _loss(report: Report, result: MergeMeasurements | FinetuneMeasurements) -> str:
    """The verdict, with the difference from the best parent and its interval."""
    text = verdict(report)
    losses = {entry.model: entry.loss for entry in result.losses if entry.role == "parent"}
    differences = [entry for entry in result.differences if entry.model in losses]
    if not text or not differences:
        return text
    best = min(differences, key=lambda entry: losses[entry.model])
    unit = report.data.unit if report.data else "example"
    return f"{text.removesuffix('.')} (difference {estimate(best)} per {unit})."


def _between(entries: Sequence[BarrierEntry]) -> str:
    if not entries or any(entry.significant is None for entry in entries):
        return ""
    walls = [entry for entry in entries if entry.significant]
    if not walls:
        return ONE_BASIN
    highest = max(walls, key=lambda entry: entry.barrier.value or 0.0)
    if len(entries) == 1:
        return (
            f"A barrier of {estimate(highest.barrier)} parts {highest.first} from {highest.second}."
        )
    return (
        f"Barriers part {len(walls)} of {len(entries)} pairs of parents; the highest, between "
        f"{highest.first} and {highest.second}, is {estimate(highest.barrier)}."
    )


def _along(entry: BarrierEntry) -> str:
    return (
        f"It stands at t = {entry.taken:.3f} of a {entry.along} path from {entry.first} to "
        f"{entry.second}: {entry.verdict}."
    )


def _barriers(report: Report, result: BarrierMeasurements) -> list[str]:
    pairs = [f"{e.first} to {e.second}, {e.along}: {e.verdict}." for e in result.pairs]
    if len(report.models) <= 2:  # noqa: PLR2004
        return pairs
    basins = "; ".join(", ".join(basin) for basin in result.basins)
    count = "One basin" if len(result.basins) == 1 else f"{len(result.basins)} basins"
    return [f"{count}: {basins}.", *pairs]


def _path(report: Report, result: PathMeasurements) -> list[str]:
    return _sentences(path_lines(result))


def _sharpness(report: Report, result: SharpnessMeasurements) -> list[str]:
    return [
        f"{entry.model}: λ_max {entry.extremes.largest.value:.4g}; {entry.stationarity.sentence}."
        for entry in result.sharpness
    ]


def _landscape(report: Report, result: LandscapeMeasurements) -> list[str]:
    return _sentences(landscape_lines(result))


def _finetune(report: Report, result: FinetuneMeasurements) -> list[str]:
    return [_loss(report, result), *training_lines(result.training), flatness(result.sharpness)]


def _members(report: Report, result: MembersMeasurements) -> list[str]:
    return [f"{len(result.members)} members, ready to average: {result.soup}"]


def _sentences(lines: Sequence[str]) -> list[str]:
    return [f"{line[:1].upper()}{line[1:]}." for line in lines]


def _check(report: Report, result: CheckMeasurements) -> list[str]:
    return ["They can be merged." if result.compatible else "They cannot be merged."]


HEADLINES: dict[type, Callable[[Report, Any], list[str]]] = {
    MergeMeasurements: _merge,
    BarrierMeasurements: _barriers,
    PathMeasurements: _path,
    SharpnessMeasurements: _sharpness,
    LandscapeMeasurements: _landscape,
    FinetuneMeasurements: _finetune,
    MembersMeasurements: _members,
    CheckMeasurements: _check,
}
"""A new kind of result is one function and one line here."""
