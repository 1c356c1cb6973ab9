"""What the losses of an output come to, in words, and what gates ask of the same numbers."""

from __future__ import annotations

from dataclasses import dataclass

from mergekit_geo.records.findings import MATERIAL, Finding, finding, limit_of, percent, sized
from mergekit_geo.records.losses import DifferenceEntry, Estimate
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.records.verdict import Verdict, Word
from mergekit_geo.views.losses import estimate, loss_table

LEAST = "only a difference of {} or more"

WORDS: dict[Finding, Word] = {
    "lower": "better", "higher": "worse", "same": "no-difference", "unknown": "cannot-tell",
}  # fmt: skip

TURNED: dict[Finding, Finding] = {"higher": "lower", "lower": "higher"}
"""A higher score is as good as a lower loss."""


@dataclass(frozen=True)
class Rival:
    """What an output is held against.

    Attributes:
        name: Of the model.
        title: What it is, with its name.
        loss: Its own.
        difference: The output's loss minus that.
        beaten: Whether the output is better than every other parent, too.
    """

    name: str
    title: str
    loss: float
    difference: DifferenceEntry
    beaten: bool = False

    @property
    def finding(self) -> Finding:
        """Finding on the loss: `lower` is better."""
        return finding(self.difference, limit_of(self.loss))


def verdict(report: Report) -> str:
    """What the losses say, in words, and the metric where it says something else.

    Empty where none were measured.
    """
    found, alone = _rival(report), unmerged(report)
    if found is None or (alone and found.name == _alone(report)):
        return alone
    told = [alone, _loss(found), _stacked(found, report), *_metrics(found, report)]
    return " ".join(filter(None, told))


def verdict_of(report: Report) -> Verdict | None:
    """Verdict as a JSON field; None where no losses were measured, and the output is a merge."""
    sentence, found = verdict(report), _rival(report)
    if not sentence:
        return None
    if found is None:
        return Verdict(word="cannot-tell", sentence=sentence)
    own = found.difference
    return Verdict(
        word=WORDS[found.finding], sentence=sentence, model=found.name, difference=own.value,
        low=own.low, high=own.high, detectable=own.detectable,
    )  # fmt: skip


def brief_losses(report: Report) -> list[str]:
    """Losses of all models, a line each, and what they say."""
    rows = ["  ".join(row) for row in loss_table(report).rows]
    return rows + [text for text in [verdict(report)] if text]


def is_not_worse(report: Report) -> bool:
    """Whether losses tell that the output is not worse than the best parent.

    It is better, or no difference is significant where one of 2 % of the loss would be.
    """
    found = _rival(report)
    return found is not None and found.finding in {"lower", "same"}


def unmerged(report: Report) -> str:
    """A sentence if the output is just one of the models; empty where it is a merge."""
    name = _alone(report)
    if name is None:
        return ""
    if len(report.models) == 1:
        return f"There is nothing to merge: the output is a copy of {name}."
    assert isinstance(report.result, MergeMeasurements)
    chosen = report.result.selection
    if chosen is not None and chosen.method in {"greedy", "learned"}:
        return f"Nothing helped {name}: the output is {name}, unmerged."
    return f"The output is {name}, unmerged: no other model has a part in it."


def _alone(report: Report) -> str | None:
    return report.result.unmerged if isinstance(report.result, MergeMeasurements) else None


def _rival(report: Report) -> Rival | None:
    """The best parent, or what was fine-tuned."""
    if isinstance(report.result, FinetuneMeasurements):
        return _before(report.result)
    return _best(report.result) if isinstance(report.result, MergeMeasurements) else None


def _before(result: FinetuneMeasurements) -> Rival | None:
    if not result.differences:
        return None
    first, losses = result.differences[0], {entry.model: entry.loss for entry in result.losses}
    return Rival(first.model, first.model, losses.get(first.model, 0.0), first)


def _best(result: MergeMeasurements) -> Rival | None:
    losses = {entry.model: entry.loss for entry in result.losses if entry.role == "parent"}
    differences = [entry for entry in result.differences if entry.model in losses]
    if not differences:
        return None
    best = min(differences, key=lambda entry: losses[entry.model])
    found = [finding(entry, limit_of(losses[entry.model])) for entry in differences]
    beaten = set(found) == {"lower"}
    return Rival(best.model, f"the best parent, {best.model}", losses[best.model], best, beaten)


def _loss(found: Rival) -> str:
    own, name = found.difference, found.title
    if own.low is None:
        return f"Too few documents to tell the output from {name}."
    if not own.detectable and own.low == own.high == 0:
        return f"No difference from {name}: every example has the same loss."
    if found.finding == "same":
        return f"No significant difference from {name}: {_power(own, found.loss)}."
    if found.finding == "unknown":
        return f"Cannot tell the output from {name}: {_power(own, found.loss, LEAST)}."
    share = f" ({percent(abs(own.value) / found.loss)} of its loss)" if found.loss else ""
    if found.beaten:
        size = f"{_size(own)} below the best, {found.name}{share}"
        return f"The output is better than every parent: {size}."
    side, comma = _side(found.finding), "," if name != found.name else ""
    return f"The output is {side} than {name}{comma} by {_size(own)}{share}."


def _stacked(found: Rival, report: Report) -> str:
    """What is to be expected of a stack that is worse; empty for any other output."""
    is_stack = isinstance(report.result, MergeMeasurements) and report.result.layers
    worse = is_stack and found.finding == "higher"
    return "Most stacks are, until they are trained." if worse else ""


def _side(found: Finding) -> str:
    return "better" if found == "lower" else "worse"


def _metrics(found: Rival, report: Report) -> list[str]:
    """The task's metrics that do not say the same as the loss."""
    name = report.data.metric if report.data else ""
    pairs = [(name or "score", found.difference.metric), ("macro-F1", found.difference.macro_f1)]
    return [
        _metric(title, entry)
        for title, entry in pairs
        if entry is not None and entry.low is not None and _turned(entry) != found.finding
    ]


def _turned(entry: Estimate) -> Finding:
    found = finding(entry, MATERIAL)
    return TURNED.get(found, found)


def _metric(title: str, entry: Estimate) -> str:
    name, kind = f"{title[:1].upper()}{title[1:]}", _turned(entry)
    if kind == "same":
        return f"{name} does not differ significantly: {_power(entry, 0.0)}."
    if kind == "unknown":
        return f"{name} cannot be told apart: {_power(entry, 0.0, LEAST)}."
    return f"{name} is {_side(kind)}: {estimate(entry)}."


def _power(entry: DifferenceEntry | Estimate, loss: float, form: str = "one of {}") -> str:
    """An estimate, and the size of a difference that would have been detected."""
    if entry.detectable is None:
        return estimate(entry)
    size = form.format(sized(entry.detectable, loss, "its loss"))
    return f"{estimate(entry)}, and {size} would be detected"


def _size(entry: DifferenceEntry) -> str:
    """Size of a difference with its interval, without the sign."""
    assert entry.low is not None, "significant without an interval"
    assert entry.high is not None, "significant without an interval"
    low, high = sorted((abs(entry.low), abs(entry.high)))
    return f"{abs(entry.value):.4f} [{low:.4f}, {high:.4f}]"
