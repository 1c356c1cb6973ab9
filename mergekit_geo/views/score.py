"""What the task's score says of an output beside what its loss says, in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from mergekit_geo.records.findings import Finding, Spanned
from mergekit_geo.records.standing import Standing
from mergekit_geo.records.verdict import ScoreVerdict, Word
from mergekit_geo.views.amount import listed, signed, size

ROUGH = 0.05
"""A difference of scores of this size must have been detectable for `the same` to be said."""

COUNTS_RIGHT = ("acc", "exact_match")
"""Parts of names of scores that are shares of right answers: accuracy, lm-eval's `acc_norm`."""

IN_POINTS = ("acc", "acc_norm", "acc_bytes", "exact_match")
"""Scores of lm-eval that are quoted in points of 100."""

CONFIDENCE: dict[Finding, str] = {
    "higher": "less confident in the right answers",
    "same": "as confident in the right answers",
    "lower": "more confident in the right answers",
}
"""What a loss says where the score counts right answers: it is how sure the model is of them."""

WORSE: tuple[Word, ...] = ("worse",)
NOT_WORSE: tuple[Word, ...] = ("no-difference", "better")

RIGHT: dict[tuple[Finding, Word], str] = {
    ("higher", "no-difference"): "not less often right",
    ("higher", "better"): "more often right",
    ("same", "worse"): "less often right",
    ("same", "better"): "more often right",
    ("lower", "no-difference"): "not more often right",
    ("lower", "worse"): "less often right",
}
"""How often the model is right, where that does not follow from its loss."""

CHANCE: dict[Finding, str] = {
    "higher": "not measurably less often right",
    "lower": "not measurably more often right",
}
"""What a score says where a small difference could have gone unseen."""


def score_words(found: Standing) -> str:
    """A sentence on the task's score; empty where it has none, or too few documents.

    Where loss and score do not say the same, it tells what that means.
    """
    score = found.score
    if score is None or score.difference is None or score.low is None:
        return ""
    name = f"{score.metric[:1].upper()}{score.metric[1:]}"
    reading = _reading(found.finding, score) if _is_of_one_model(found, score) else ""
    return f"{name} {_compared(found, score)}{f': {reading}' if reading else ''}."


def _is_of_one_model(found: Standing, score: ScoreVerdict) -> bool:
    """Whether loss and score are held against one parent, and the score counts right answers."""
    counts = any(word in score.metric.lower() for word in COUNTS_RIGHT)
    return score.model == found.model and counts


def _compared(found: Standing, score: ScoreVerdict) -> str:
    """How the score compares, with its numbers."""
    assert score.difference is not None, "told without a number"
    highest = "" if score.model == found.model else f"that of {score.model}, the highest"
    told = _difference(score, signed)
    if score.word == "no-difference":
        return (
            f"is the same{highest and f' as {highest},'} ({told}{_least(score, ', and one of {}')})"
        )
    if score.word == "cannot-tell" and _is_rough(score):
        apart = f"cannot be told apart{highest and f' from {highest}'}"
        return f"{apart} ({told}{_least(score, '; only {} or more')})"
    if score.word == "cannot-tell":
        same = f"is the same{highest and f' as {highest},'} as far as can be told"
        return f"{same} ({told}{_least(score, '; only {} or more')})"
    too = ", too," if score.word == found.word and not highest else ""
    return f"is {score.word}{highest and f' than {highest},'}{too} by {_difference(score, size)}"


def _is_rough(score: ScoreVerdict) -> bool:
    return score.detectable is None or score.detectable > ROUGH


def _least(score: ScoreVerdict, form: str) -> str:
    """The size that would be detected, where that is known."""
    if not score.detectable:
        return ""
    points = _is_in_points(score)
    known = f"{100 * score.detectable:.2g} points" if points else f"{score.detectable:.2g}"
    return f"{form.format(known)} would be detected"


def _is_in_points(score: ScoreVerdict) -> bool:
    """Whether people quote the score in hundredths."""
    return score.metric.rpartition(" ")[2] in IN_POINTS


def _difference(score: ScoreVerdict, say: Callable[[float, Spanned], str]) -> str:
    """A difference of scores with its interval, in points where people quote it so."""
    assert score.difference is not None, "told without a number"
    if not _is_in_points(score) or score.low is None or score.high is None:
        return say(score.difference, score)
    ends = {"low": 100 * score.low, "high": 100 * score.high}
    return f"{say(100 * score.difference, score.model_copy(update=ends))} points"


def _reading(loss: Finding, score: ScoreVerdict) -> str:
    """What loss and score come to together; empty where they say the same."""
    if loss == "unknown":
        return ""
    if score.word == "cannot-tell":
        right = "" if _is_rough(score) else CHANCE.get(loss, "")
    else:
        right = RIGHT.get((loss, score.word), "")
    return f"{CONFIDENCE[loss]}, {right}" if right else ""


def apart(found: Mapping[str, Standing | None]) -> list[str]:
    """Sets on which the score says something else than the loss of what was lost.

    Args:
        found: How the output stands on each of several sets.
    """
    told = {
        name: one
        for name, one in found.items()
        if one and one.score and _is_of_one_model(one, one.score)
    }
    sure = [name for name, one in told.items() if one.word in WORSE and _score_in(one, NOT_WORSE)]
    less = [name for name, one in told.items() if one.word in NOT_WORSE and _score_in(one, WORSE)]
    return [
        *([f"On {listed(sure)} it is less confident in the right answers, not less often right."]
          if sure else []),
        *([f"On {listed(less)} it is less often right, though the loss is not worse."]
          if less else []),
    ]  # fmt: skip


def _score_in(found: Standing, words: Collection[Word]) -> bool:
    return found.score is not None and found.score.word in words
