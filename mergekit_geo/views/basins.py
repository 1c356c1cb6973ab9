"""What stands between models, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.findings import finding, limit_of

ONE_BASIN = "No significant barrier stands between the parents: they lie in one basin."


def between(entries: Sequence[BarrierEntry]) -> str:
    """The barriers that matter, else that there are none, else that nothing can be told."""
    if not entries or any(entry.significant is None for entry in entries):
        return ""
    barriers = [entry for entry in entries if standing(entry) == "barrier"]
    if not barriers:
        return _no_barriers(entries)
    highest = max(barriers, key=lambda entry: entry.barrier.value or 0.0)
    pair = f"{highest.first} {{}} {highest.second}"
    if len(entries) == 1:
        return f"{pair.format('to')}: {highest.verdict}."
    return (
        f"Barriers part {len(barriers)} of {len(entries)} pairs of parents; the highest is between "
        f"{pair.format('and')}: {highest.verdict}."
    )


def between_by_set(found: Mapping[str, Sequence[BarrierEntry]]) -> list[str]:
    """Tell what stands between models on each of several sets, or that nothing does on any.

    Args:
        found: Paths between parents, by set.
    """
    told = {
        name: between(entries)
        for name, entries in found.items()
        if any(standing(entry) in {"barrier", "unknown"} for entry in entries)
    }
    lines = [f"On {name}: {text}" for name, text in told.items() if text]
    if lines or not all(between(entries) for entries in found.values()):
        return lines
    return [ONE_BASIN.replace("the parents", "the parents on any set")]


def _no_barriers(entries: Sequence[BarrierEntry]) -> str:
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


def standing(entry: BarrierEntry) -> Literal["barrier", "negligible", "none", "unknown"]:
    """What stands on a path, by its size: below 2 % of the loss of the ends it is negligible."""
    ends = [loss for loss in (entry.loss[0], entry.loss[-1]) if loss is not None]
    limit = entry.threshold or limit_of(sum(ends) / max(len(ends), 1))
    found = finding(entry.barrier, limit)
    if found == "higher":
        return "barrier" if (entry.barrier.value or 0.0) >= limit else "negligible"
    return "unknown" if found == "unknown" else "none"
