"""How sharp an output is beside its parents, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mergekit_geo.records.curvature import SharpnessEntry
from mergekit_geo.records.findings import Finding, finding
from mergekit_geo.records.losses import DifferenceEntry
from mergekit_geo.views.measures import lambda_max

QUARTER = 0.25
"""Share of λ_max that makes a model sharper or flatter."""

COMPARED: dict[Finding, str] = {
    "lower": "is flatter than",
    "higher": "is sharper than",
    "same": "is about as sharp as",
    "unknown": "cannot be told by its sharpness from",
}


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


def _told(
    kind: Finding,
    those: Sequence[SharpnessEntry],
    parents: Sequence[SharpnessEntry],
    known: Mapping[str, DifferenceEntry],
) -> str:
    """How it compares with some of the parents, and what would have been detected."""
    all_of_them = "any parent" if kind == "unknown" else "every parent"
    every = "its parent" if len(parents) == 1 else all_of_them
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
    ends = [lambda_max(entry) for entry in (ordered[0], ordered[-1])]
    return f"{lambda_max(own)} against {' to '.join(dict.fromkeys(ends))}"
