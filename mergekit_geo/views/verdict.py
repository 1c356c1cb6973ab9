"""What the losses of an output come to, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mergekit_geo.records.findings import Finding, percent, sized
from mergekit_geo.records.losses import DifferenceEntry, Estimate
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.standing import Standing, overall, standings, turned
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.records.verdict import Verdict
from mergekit_geo.views.losses import estimate, loss_table

LEAST = "only a difference of {} or more"


def verdict(report: Report) -> str:
    """What the losses say, in words, and the metric where it says something else.

    Empty where none were measured.
    """
    every, alone = standings(report), unmerged(report)
    if len(every) > 1:
        told = (f"{name}: {_told_on(report, one, name)}" for name, one in every.items())
        return " ".join(filter(None, [alone, *told]))
    found = next(iter(every.values()), None)
    if found is None or (alone and found.model == _alone(report)):
        return alone
    return " ".join(filter(None, [alone, _told_on(report, found)]))


def _told_on(report: Report, found: Standing | None, name: str = "") -> str:
    """What the losses say on one evaluation set."""
    if found is None:
        return "No loss was measured."
    metric = _metric_of(report, name)
    told = [_loss(found, report), _stacked(found, report), *_metrics(found, metric)]
    return " ".join(filter(None, told))


def _metric_of(report: Report, name: str) -> str:
    """What the task's metric is called, on a set or on the only one."""
    result = report.result
    several = result.sets if isinstance(result, MergeMeasurements | FinetuneMeasurements) else {}
    data = several[name].data if name in several else report.data
    return data.metric if data else ""


def verdict_of(report: Report) -> Verdict | None:
    """Verdict as a JSON field; None where no losses were measured, and the output is a merge."""
    sentence, found = verdict(report), standings(report)
    if not sentence:
        return None
    if len(found) == 1:
        (only,) = found.values()
        return only.verdict(sentence) if only else Verdict(word="cannot-tell", sentence=sentence)
    return _over_all(report, found).model_copy(update={"sentence": sentence})


def _over_all(report: Report, found: Mapping[str, Standing | None]) -> Verdict:
    """The verdicts on several sets, with the numbers of one that the word is of."""
    sets = {name: _on_one(report, one, name) for name, one in found.items()}
    word = overall([one.word for one in sets.values()])
    name = max(
        (name for name, one in sets.items() if one.word == word),
        key=lambda name: -math.inf if (d := sets[name].difference) is None else d,
    )
    more = {"on": name, "score": None, "sets": sets}
    return sets[name].model_copy(update=more)


def _on_one(report: Report, found: Standing | None, name: str) -> Verdict:
    told = _told_on(report, found, name)
    if found is None:
        return Verdict(word="cannot-tell", sentence=told)
    return found.verdict(told).model_copy(update={"score": found.score})


def brief_losses(report: Report) -> list[str]:
    """Losses of all models, a line each, and what they say."""
    rows = ["  ".join(row) for row in loss_table(report).rows]
    return rows + [text for text in [verdict(report)] if text]


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


def _loss(found: Standing, report: Report) -> str:
    is_tuned = isinstance(report.result, FinetuneMeasurements)  # beside what it was, and no other
    title = found.model if is_tuned else f"the best parent, {found.model}"
    own, name = found.difference, title
    if own.low is None:
        return f"Too few documents to tell the output from {name}."
    if not own.detectable and own.low == own.high == 0:
        return f"No difference from {name}: every example has the same loss."
    if found.finding == "same":
        return f"No significant difference from {name}: {_power(own, found.loss)}."
    if found.finding == "unknown":
        return f"Cannot tell the output from {name}: {_power(own, found.loss, LEAST)}."
    share = f" ({percent(abs(own.value) / found.loss)} of its loss)" if found.loss else ""
    if found.beaten and not is_tuned:
        size = f"{_size(own)} below the best, {found.model}{share}"
        return f"The output is better than every parent: {size}."
    side, comma = _side(found.finding), "," if name != found.model else ""
    return f"The output is {side} than {name}{comma} by {_size(own)}{share}."


def _stacked(found: Standing, report: Report) -> str:
    """What is to be expected of a stack that is worse; empty for any other output."""
    is_stack = isinstance(report.result, MergeMeasurements) and report.result.layers
    worse = is_stack and found.finding == "higher"
    return "Most stacks are, until they are trained." if worse else ""


def _side(found: Finding) -> str:
    return "better" if found == "lower" else "worse"


def _metrics(found: Standing, metric: str) -> list[str]:
    """The task's metrics that do not say the same as the loss."""
    pairs = [(metric or "score", found.difference.metric), ("macro-F1", found.difference.macro_f1)]
    return [
        _metric(title, entry)
        for title, entry in pairs
        if entry is not None and entry.low is not None and turned(entry) != found.finding
    ]


def _metric(title: str, entry: Estimate) -> str:
    name, kind = f"{title[:1].upper()}{title[1:]}", turned(entry)
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
