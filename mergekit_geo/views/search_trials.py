"""What trials of a search are called, and how each kind of them is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mergekit_geo.records.search import SearchEntry, TrialEntry
from mergekit_geo.views.chart import label
from mergekit_geo.views.style import COLOURS, OUTPUT, Style

NAMED = 5
"""Most starts that are drawn each in its own way."""
NAME = 32
"""Most characters of a start's name."""
STARTS = ("square", "triangle-up", "diamond", "cross")
"""Markers of starts."""
DEFAULT, UNIFORM = "default recipe", "uniform soup"
"""What starts of a search, and what its output is held against, are called."""
VALUES = {"maximum": "worst Δ", "mean": "mean Δ", "weighted mean": "weighted mean Δ"}
"""What is minimised over several sets, by the first words of the aim."""


@dataclass(frozen=True)
class Kind:
    """A kind of trials.

    Attributes:
        name: Of it.
        style: How it is drawn.
    """

    name: str
    style: Style


KINDS = {
    "plain": Kind("trial", Style(COLOURS[0], "circle", "")),
    "stopped": Kind("stopped by racing", Style(COLOURS[0], "circle-open", "")),
    "lost": Kind("loses a set that is to be kept", Style("#7a7a7a", "x", "")),
}
"""Kinds of trials that a sampler chose."""


def by_kind(trials: Sequence[TrialEntry], taken: int | None) -> dict[Kind, list[TrialEntry]]:
    """Trials by kind, the output last; starts have a kind each.

    Args:
        trials: By number.
        taken: Number of the output; None where there is none.
    """
    titles = list(dict.fromkeys(trial.title for trial in trials if trial.title))
    starts = {title: _start(i, title) for i, title in enumerate(titles)}
    found: dict[Kind, list[TrialEntry]] = {kind: [] for kind in [*KINDS.values(), *starts.values()]}
    out = Kind("output", Style(OUTPUT, "star", "solid"))
    for trial in trials:
        kind = out if trial.number == taken else _kind(trial, starts)
        found.setdefault(kind, []).append(trial)
    found[out] = found.pop(out, [])  # above all others
    return {kind: those for kind, those in found.items() if those}


def is_plain(trial: TrialEntry) -> bool:
    """Whether a trial is what one would take without a search."""
    return not {DEFAULT, UNIFORM}.isdisjoint(trial.starts)


def _start(number: int, title: str) -> Kind:
    """How a start is drawn; those beyond the first few alike."""
    name = label(title, most=NAME) if number < NAMED else "other starts"
    at = min(number, NAMED)
    colour = COLOURS[1:][(at + at // len(STARTS)) % (len(COLOURS) - 1)]
    return Kind(name, Style(colour, STARTS[at % len(STARTS)], ""))


def _kind(trial: TrialEntry, starts: dict[str, Kind]) -> Kind:
    if not trial.is_feasible:
        return KINDS["lost"]
    if trial.title:
        start = starts[trial.title]
        own = start.style
        return Kind(start.name, replace(own, marker=own.marker + "-open" * trial.stopped))
    return KINDS["stopped" if trial.stopped else "plain"]


def value_name(found: SearchEntry) -> str:
    """What a trial counts, in a word or two."""
    if not found.aim:
        return "Δ" if found.aims else "loss"
    return VALUES.get(found.aim.partition(" over ")[0], "value")


def title_of(trial: TrialEntry) -> str:
    """A trial with what it counts, for who points at it."""
    start = f", {trial.title}" if trial.title else ""
    sets = ", ".join(f"{name} {value:.4g}" for name, value in trial.by_set.items()
                     if value is not None)  # fmt: skip
    told = spanned(trial) or sets
    end = f" ({outcome(trial)})" if outcome(trial) != "whole" else ""
    return f"trial {trial.number}{start}: {told}{end}"


def outcome(trial: TrialEntry) -> str:
    """How a trial ended."""
    if trial.error:
        return f"failed: {trial.error}"
    lost = "" if trial.is_feasible else f"loses {trial.lost:.3g} on a set to be kept"
    return ", ".join(filter(None, ["stopped" if trial.stopped else "", lost])) or "whole"


def spanned(trial: TrialEntry) -> str:
    """What a trial counts, with its interval; empty where it has no value."""
    if trial.value is None:
        return ""
    if trial.low is None or trial.high is None:
        return f"{trial.value:.4f}"
    return f"{trial.value:.4f} [{trial.low:.4f}, {trial.high:.4f}]"


def cell(value: float | str | None) -> str:
    """A number or label of a recipe, for a cell."""
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.4g}"
