"""What the losses of an output come to, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mergekit_geo.records.escape import EscapeMeasurements
from mergekit_geo.records.findings import Finding, percent, sized
from mergekit_geo.records.losses import DifferenceEntry, Estimate
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.standing import Standing, overall, standings, turned
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.records.verdict import Verdict
from mergekit_geo.views.losses import estimate
from mergekit_geo.views.score import score_words
from mergekit_geo.views.skills import skills

LEAST = "only a difference of {} or more"


def verdict(report: Report) -> str:
    """What loss and score say, in words; empty where none were measured."""
    return " ".join(verdict_lines(report))


def verdict_lines(report: Report) -> list[str]:
    """What loss and score say, the most important first: a line, or several of several sets."""
    every, alone = standings(report), unmerged(report)
    if len(every) > 1:
        return [*([alone] if alone else []), *skills(report)]
    found = next(iter(every.values()), None)
    if found is None or (alone and found.model == _alone(report)):
        return [alone] if alone else []
    return [" ".join(filter(None, [alone, told_on(report, found)]))]


def told_on(report: Report, found: Standing | None) -> str:
    """What loss and score say on one evaluation set."""
    if found is None:
        return "No loss was measured."
    told = [_loss(found, report), _stacked(found, report), score_words(found), _macro_f1(found)]
    return " ".join(filter(None, told))


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
    sets = {name: _on_one(report, one) for name, one in found.items()}
    word = overall([one.word for one in sets.values()])
    name = max(
        (name for name, one in sets.items() if one.word == word),
        key=lambda name: -math.inf if (d := sets[name].difference) is None else d,
    )
    more = {"on": name, "score": None, "sets": sets}
    return sets[name].model_copy(update=more)


def _on_one(report: Report, found: Standing | None) -> Verdict:
    told = told_on(report, found)
    if found is None:
        return Verdict(word="cannot-tell", sentence=told)
    return found.verdict(told).model_copy(update={"score": found.score})


def is_worse(report: Report) -> bool:
    """Whether an output is worse than the best parent, on some evaluation set."""
    return any(one is not None and one.word == "worse" for one in standings(report).values())


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
    is_tuned = isinstance(
        report.result, FinetuneMeasurements | EscapeMeasurements
    )  # beside what it was, and no other
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


def _macro_f1(found: Standing) -> str:
    """Macro-F1, where it does not say the same as the loss."""
    entry = found.difference.macro_f1
    if entry is None or entry.low is None or (kind := turned(entry)) == found.finding:
        return ""
    if kind == "same":
        return f"Macro-F1 does not differ significantly: {_power(entry, 0.0)}."
    if kind == "unknown":
        return f"Macro-F1 cannot be told apart: {_power(entry, 0.0, LEAST)}."
    return f"Macro-F1 is {_side(kind)}: {estimate(entry)}."


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
