"""Which skills an output kept and which it lost, of several evaluation sets, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mergekit_geo.records.escape import EscapeMeasurements
from mergekit_geo.records.findings import Finding, percent
from mergekit_geo.records.report import Report
from mergekit_geo.records.sets import AcrossSets, OutputSetEntry
from mergekit_geo.records.standing import Standing, standings
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.views.amount import listed, signed, size, spanned
from mergekit_geo.views.losses import WITH_OUTPUT, loss_unit
from mergekit_geo.views.score import apart

ORDER: tuple[Finding, ...] = ("higher", "same", "lower", "unknown")
"""What is lost stands first."""

KIND: dict[Finding, str] = {
    "higher": "lost", "same": "kept", "lower": "gained", "unknown": "cannot tell",
}  # fmt: skip
"""What became of a skill, in a word."""

Found = Mapping[str, Standing | None]


def sets_of(report: Report) -> dict[str, OutputSetEntry]:
    """What was measured on each of several sets by name; nothing where there is one."""
    return report.result.sets if isinstance(report.result, WITH_OUTPUT) else {}


def kind_of(found: Standing | None) -> Finding:
    """Finding on the loss of one set; nothing can be told of one that was not measured."""
    return "unknown" if found is None else found.finding


def skills(report: Report) -> list[str]:
    """Say what became of each of several sets, where scores say something else, and the mean."""
    found, sets = standings(report), sets_of(report)
    return [*_kept_and_lost(report, found), *apart(found), *_missing(sets), *_across(report)]


def _kept_and_lost(report: Report, found: Found) -> list[str]:
    """A sentence on the sets of which something can be told, and one on the others."""
    units = {name: loss_unit(one.data) for name, one in sets_of(report).items()}
    words = _Words(units, rival(report))
    those = {
        kind: {n: one for n, one in found.items() if one is not None and one.finding == kind}
        for kind in ORDER
    }
    told = [words.of(kind, sets) for kind, sets in those.items() if sets and kind != "unknown"]
    sentences = [f"The output {listed(told)}."] if told else []
    if those["unknown"]:
        subject = "It" if told else "The output"
        sentences.append(f"{subject} {words.of('unknown', those['unknown'])}.")
    return sentences


def rival(report: Report) -> str:
    """What an output is held against on each set."""
    tuned = isinstance(report.result, FinetuneMeasurements | EscapeMeasurements)
    return "the model before" if tuned else "the best parent"


@dataclass(frozen=True)
class _Words:
    """Words for sets by what became of them.

    Attributes:
        units: What loss is counted in, by set.
        rival: What the output is held against.
    """

    units: Mapping[str, str]
    rival: str

    def of(self, kind: Finding, found: Mapping[str, Standing]) -> str:
        if kind == "same":
            return f"keeps {listed(list(found))} (no significant difference from {self.rival})"
        if kind == "unknown":
            sets = listed([_least(name, one) for name, one in found.items()])
            return f"cannot be told from {self.rival} on {sets}"
        return f"{'loses' if kind == 'higher' else 'gains'} {self._sizes(found)}"

    def _sizes(self, found: Mapping[str, Standing]) -> str:
        """Differences with their sets, the largest first; a unit is told once."""
        told, last = [], ""
        for name in sorted(found, key=lambda name: -abs(found[name].difference.value)):
            own, loss = found[name].difference, found[name].loss
            unit = "" if self.units[name] == last else f" {self.units[name]}"
            share = f" ({percent(abs(own.value) / loss)})" if loss else ""
            told.append(f"{size(own.value, own)}{unit} on {name}{share}")
            last = self.units[name]
        return listed(told)


def _least(name: str, found: Standing) -> str:
    """A set, and what would have been detected there."""
    known = found.difference.detectable
    if known is None or found.difference.low is None:
        return f"{name} (too few documents)"
    return f"{name} (only {known:.2g} or more would be detected)"


def _missing(sets: Mapping[str, OutputSetEntry]) -> list[str]:
    return [f"{name} was not measured: {one.reason}." for name, one in sets.items() if one.reason]


def _across(report: Report) -> list[str]:
    """Mean and worst of the differences to the best parents."""
    across = report.result.across if isinstance(report.result, WITH_OUTPUT) else None
    if across is None or across.mean.value is None or across.worst.value is None:
        return []
    than = rival(report).replace("parent", "parents")
    return [
        f"Over all sets its loss is {_mean(across)} beside {than} on average, and "
        f"{_told(across.worst.value, across)} at worst, on {across.worst_set}."
    ]


def _mean(across: AcrossSets) -> str:
    """The mean with its interval, in percent where sets count in unlike units."""
    value, found = across.mean.value, across.mean
    assert value is not None, "told without a number"
    if not across.relative or found.low is None or found.high is None:
        return _told(value, across) if across.relative else signed(value, found)
    return f"{spanned(100 * value, 100 * found.low, 100 * found.high, '+')} %"


def _told(value: float, across: AcrossSets) -> str:
    return f"{100 * value:+.2g} %" if across.relative else f"{value:+.2g}"
