"""What a report says first, in words: a few sentences, each with the numbers it rests on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from mergekit_geo.records.barrier import BarrierEntry, BarrierMeasurements
from mergekit_geo.records.curvature import SharpnessEntry, SharpnessMeasurements
from mergekit_geo.records.findings import Finding, finding, limit_of
from mergekit_geo.records.landscape import LandscapeMeasurements
from mergekit_geo.records.losses import DifferenceEntry
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.model import CheckMeasurements
from mergekit_geo.records.path import PathMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.training import FinetuneMeasurements, MembersMeasurements
from mergekit_geo.views.landscape_text import landscape_lines
from mergekit_geo.views.measures import LAMBDA_MAX
from mergekit_geo.views.tables import path_lines, training_lines
from mergekit_geo.views.verdict import verdict

STRAIGHT = "linear"

ONE_BASIN = "No significant barrier stands between the parents: they lie in one basin."


def headline(report: Report) -> list[str]:
    """Sentences, the most important first; empty where nothing was measured."""
    make = HEADLINES.get(type(report.result))
    return [] if make is None else [text for text in make(report, report.result) if text]


def summary(report: Report) -> list[str]:
    """What a model that was written comes to: losses, barriers, sharpness; not how it was made."""
    if isinstance(report.result, FinetuneMeasurements):
        found = [verdict(report), flatness(report.result.sharpness)]
        return [text for text in found if text]
    return headline(report)


def flatness(entries: Sequence[SharpnessEntry]) -> str:
    """How the output's λ_max compares with its parents'; empty without both.

    Eigenvalues are told apart by their paired difference over documents. "About as sharp" is said
    only where a difference of a quarter would have been detected.
    """
    outputs = [entry for entry in entries if entry.role == "output"]
    parents = [entry for entry in entries if entry.role == "parent"]
    if not outputs or not parents:
        return ""
    own, known = outputs[0], {entry.model: entry for entry in outputs[0].against}
    found: dict[Finding, list[SharpnessEntry]] = {}
    for parent in parents:
        limit = QUARTER * abs(parent.extremes.largest.value)
        kind = finding(known[parent.model], limit) if parent.model in known else "unknown"
        found.setdefault(kind, []).append(parent)
    told = [_told(kind, found[kind], parents, known) for kind in COMPARED if kind in found]
    return f"It {'; it '.join(told)}: λ_max {_numbers(own, parents)}."


QUARTER = 0.25
"""Share of λ_max that makes a model sharper or flatter."""

COMPARED: dict[Finding, str] = {
    "lower": "is flatter than",
    "higher": "is sharper than",
    "same": "is about as sharp as",
    "unknown": "cannot be told by its sharpness from",
}


def _told(
    kind: Finding,
    those: Sequence[SharpnessEntry],
    parents: Sequence[SharpnessEntry],
    known: Mapping[str, DifferenceEntry],
) -> str:
    """How it compares with some of the parents, and what would have been detected."""
    every = "its parent" if len(parents) == 1 else "every parent"
    names = every if len(those) == len(parents) else ", ".join(entry.model for entry in those)
    sizes = [known[e.model].detectable for e in those if e.model in known]
    sure = [size for size in sizes if size is not None]
    if kind in {"lower", "higher"} or not sure:
        return f"{COMPARED[kind]} {names}"
    only = "only a difference" if kind == "unknown" else "a difference"
    return f"{COMPARED[kind]} {names} ({only} of {max(sure):.2g} would be detected)"


def _numbers(own: SharpnessEntry, parents: Sequence[SharpnessEntry]) -> str:
    """λ_max of the output, against the range of its parents."""
    ordered = sorted(parents, key=lambda entry: entry.extremes.largest.value)
    ends = [LAMBDA_MAX.text(entry) for entry in (ordered[0], ordered[-1])]
    return f"{LAMBDA_MAX.text(own)} against {' to '.join(dict.fromkeys(ends))}"


def _merge(report: Report, result: MergeMeasurements) -> list[str]:
    parents = {model.name for model in report.models}
    straight = [
        e for e in result.barriers if e.along == STRAIGHT and {e.first, e.second} <= parents
    ]
    return [
        verdict(report),
        _between(straight),
        *(_along(entry) for entry in result.barriers if entry.taken is not None),
        flatness(result.sharpness),
    ]


def _between(entries: Sequence[BarrierEntry]) -> str:
    """The barriers that matter, else that there are none, else that nothing can be told."""
    if not entries or any(entry.significant is None for entry in entries):
        return ""
    walls = [entry for entry in entries if standing(entry) == "wall"]
    if not walls:
        return _no_walls(entries)
    highest = max(walls, key=lambda entry: entry.barrier.value or 0.0)
    pair = f"{highest.first} {{}} {highest.second}"
    if len(entries) == 1:
        return f"{pair.format('to')}: {highest.verdict}."
    return (
        f"Barriers part {len(walls)} of {len(entries)} pairs of parents; the highest is between "
        f"{pair.format('and')}: {highest.verdict}."
    )


def _no_walls(entries: Sequence[BarrierEntry]) -> str:
    """How sure it is that no barrier that matters parts the parents."""
    unknown = [entry for entry in entries if standing(entry) == "unknown"]
    if unknown:
        pairs = "; ".join(f"{e.first} to {e.second}: {e.verdict}" for e in unknown)
        return f"No barrier was found between the parents, but {pairs}."
    small = [entry for entry in entries if standing(entry) == "negligible"]
    if not small:
        return f"{ONE_BASIN}{_least(entries)}"
    highest = max(small, key=lambda entry: entry.barrier.value or 0.0)
    return (
        "Nothing but negligible barriers stands between the parents, which lie in one basin; the "
        f"highest, from {highest.first} to {highest.second}: {highest.verdict}."
    )


def _least(entries: Sequence[BarrierEntry]) -> str:
    """The size of a barrier that would have been detected between any two."""
    sizes = [e.barrier.detectable for e in entries if e.barrier.detectable]
    return f" One of {max(sizes):.2g} would be detected." if sizes else ""


def standing(entry: BarrierEntry) -> Literal["wall", "negligible", "none", "unknown"]:
    """What stands on a path, by its size: below 2 % of the loss of the ends it is negligible."""
    ends = [loss for loss in (entry.loss[0], entry.loss[-1]) if loss is not None]
    limit = entry.threshold or limit_of(sum(ends) / max(len(ends), 1))
    found = finding(entry.barrier, limit)
    if found == "higher":
        return "wall" if (entry.barrier.value or 0.0) >= limit else "negligible"
    return "unknown" if found == "unknown" else "none"


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
    sure = all(standing(entry) != "unknown" for entry in result.pairs)
    return [f"{count}{'' if sure else ', as far as can be told'}: {basins}.", *pairs]


def _path(report: Report, result: PathMeasurements) -> list[str]:
    return _sentences(path_lines(result))


def _sharpness(report: Report, result: SharpnessMeasurements) -> list[str]:
    return [
        f"{entry.model}: λ_max {LAMBDA_MAX.text(entry)}; {entry.stationarity.sentence}."
        for entry in result.sharpness
    ]


def _landscape(report: Report, result: LandscapeMeasurements) -> list[str]:
    return _sentences(landscape_lines(result))


def _finetune(report: Report, result: FinetuneMeasurements) -> list[str]:
    return [verdict(report), *training_lines(result.training), flatness(result.sharpness)]


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
