"""How an output stands beside the best parent, on one evaluation set and over several."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mergekit_geo.records.escape import EscapeMeasurements
from mergekit_geo.records.findings import MATERIAL, Finding, finding, limit_of
from mergekit_geo.records.losses import DataEntry, DifferenceEntry, Estimate, LossEntry
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.records.verdict import ScoreVerdict, Verdict, Word

WORDS: dict[Finding, Word] = {
    "lower": "better", "higher": "worse", "same": "no-difference", "unknown": "cannot-tell",
}  # fmt: skip
TURNED: dict[Finding, Finding] = {"higher": "lower", "lower": "higher"}
"""A higher score is as good as a lower loss."""

HOLD: tuple[Word, ...] = ("better", "no-difference")
"""Words of an output that is not worse."""

By = Literal["loss", "score"]


@dataclass(frozen=True)
class Standing:
    """An output beside the parent with the lowest loss.

    Attributes:
        model: That parent.
        loss: Its own.
        difference: The output's loss minus that.
        beaten: Whether the output is better than every other parent, too.
        score: The same of the task's metric, beside the parent with the highest one; None where the
            task has none.
    """

    model: str
    loss: float
    difference: DifferenceEntry
    beaten: bool = False
    score: ScoreVerdict | None = None

    @property
    def finding(self) -> Finding:
        """Finding on the loss: `lower` is better."""
        return finding(self.difference, limit_of(self.loss))

    @property
    def word(self) -> Word:
        """Word for programs that says what the loss says."""
        return WORDS[self.finding]

    def word_by(self, by: By) -> Word:
        """The word of the loss, or of the metric; `cannot-tell` where the task has none."""
        if by == "loss":
            return self.word
        return "cannot-tell" if self.score is None else self.score.word

    def verdict(self, sentence: str) -> Verdict:
        """The numbers of the loss, and what they say in words."""
        own = self.difference
        return Verdict(
            word=self.word, sentence=sentence, model=self.model, difference=own.value, low=own.low,
            high=own.high, detectable=own.detectable,
        )  # fmt: skip


def standing_on(
    losses: Sequence[LossEntry], differences: Sequence[DifferenceEntry], data: DataEntry | None
) -> Standing | None:
    """How an output stands on one evaluation set; None where nothing was measured there.

    Args:
        losses: Of the models.
        differences: Of the output minus each of the others.
        data: What the set is.
    """
    parents = {entry.model: entry for entry in losses if entry.role == "parent"}
    found = [entry for entry in differences if entry.model in parents]
    if not found:
        return None
    best = min(found, key=lambda entry: parents[entry.model].loss)
    sides = {finding(entry, limit_of(parents[entry.model].loss)) for entry in found}
    score = _score(parents, found, data)
    return Standing(best.model, parents[best.model].loss, best, sides == {"lower"}, score)


def standings(report: Report) -> dict[str, Standing | None]:
    """How an output stands on each of several sets, by name; on one set, under the name "".

    Empty for what has no output that something is held against.
    """
    found = report.result
    if not isinstance(found, MergeMeasurements | FinetuneMeasurements | EscapeMeasurements):
        return {}
    if not found.sets:
        return {"": standing_on(found.losses, found.differences, report.data)}
    return {
        name: standing_on(one.losses, one.differences, one.data) for name, one in found.sets.items()
    }


def holds(report: Report, sets: Collection[str] = (), by: By = "loss") -> bool:
    """Whether an output is not worse than the best parent, on each of some sets.

    It is better there, or no difference is significant where one of 2 % of the loss (or of the
    metric's whole) would be.

    Args:
        report: Of the output.
        sets: Their names; all if empty. A report on one set has no name for it.
        by: Loss, or the task's metric.
    """
    words = words_on(report, sets, by)
    return bool(words) and all(word in HOLD for word in words.values())


def words_on(report: Report, sets: Collection[str] = (), by: By = "loss") -> dict[str, Word]:
    """The words of `holds`, by set."""
    every = standings(report)
    asked = every if not sets or "" in every else {name: every.get(name) for name in sets}
    return {name: one.word_by(by) if one else "cannot-tell" for name, one in asked.items()}


def overall(words: Collection[Word]) -> Word:
    """What the words on several sets come to: the worst; better only if no set says otherwise.

    Example:
        >>> overall(["better", "no-difference"]), overall(["better", "cannot-tell", "worse"])
        ('better', 'worse')
    """
    order: tuple[Word, ...] = ("worse", "cannot-tell", "better", "no-difference")
    return next(word for word in order if word in words)


def _score(
    parents: Mapping[str, LossEntry], found: Sequence[DifferenceEntry], data: DataEntry | None
) -> ScoreVerdict | None:
    """The output's metric beside the highest of the parents."""
    scores = {
        entry.model: (score, entry.metric)
        for entry in found
        if (score := parents[entry.model].metric) is not None and entry.metric is not None
    }
    if not scores:
        return None
    name = max(scores, key=lambda name: scores[name][0])
    own = scores[name][1]
    return ScoreVerdict(
        word=WORDS[turned(own)], metric=(data and data.metric) or "score", model=name,
        difference=own.value, low=own.low, high=own.high, detectable=own.detectable,
    )  # fmt: skip


def turned(entry: Estimate) -> Finding:
    """Finding on a difference of scores, as one of losses: `lower` is better."""
    found = finding(entry, MATERIAL)
    return TURNED.get(found, found)
