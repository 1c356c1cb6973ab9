"""How an output stands on each of several sets, and what that comes to."""

from __future__ import annotations

import json
from itertools import product

import pytest

from mergekit_geo.records.losses import DataEntry, DifferenceEntry, Estimate, LossEntry
from mergekit_geo.records.merge import MergeCoefficients, MergeMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.sets import OutputSetEntry
from mergekit_geo.records.standing import By, holds, overall, standings
from mergekit_geo.records.verdict import Word
from mergekit_geo.views.verdict import verdict_of

DATA = DataEntry(
    source="x.jsonl", digest="", documents=27, examples=27, available=27, tokens=27, seq_len=9,
    seed=0, unit="example", metric="accuracy",
)  # fmt: skip


def one_set(loss: tuple[float, float], score: tuple[float, float] | None = None) -> OutputSetEntry:
    """Parents a (loss 2, accuracy 0.5) and b (3, 0.7); the output minus a is loss, minus b score.

    Each is a value and half an interval.
    """

    def difference(model: str, value: float, half: float) -> DifferenceEntry:
        own = score and Estimate(
            value=score[0] + (model == "a") * 0.2, low=score[0] - score[1],
            high=score[0] + score[1], detectable=score[1],
        )  # fmt: skip
        return DifferenceEntry(
            model=model, value=value, low=value - half, high=value + half, significant=None,
            detectable=half, metric=own or None,
        )  # fmt: skip

    scores = {"a": 0.5, "b": 0.7} if score else {}
    losses = [
        LossEntry(model=name, role="parent", loss=at, low=1, high=9, metric=scores.get(name))
        for name, at in (("a", 2.0), ("b", 3.0))
    ]
    return OutputSetEntry(
        data=DATA, losses=losses,
        differences=[difference("a", *loss), difference("b", loss[0] - 1, loss[1])],
    )  # fmt: skip


BETTER, SAME, UNKNOWN, WORSE = (-0.3, 0.1), (0.0, 0.01), (0.0, 1.0), (0.3, 0.1)
UNMEASURED = OutputSetEntry(data=DATA, losses=[], reason="it failed")


def report_of(**sets: OutputSetEntry) -> Report:
    first = next(iter(sets.values()))
    return Report(
        command="soup",
        data=first.data,
        result=MergeMeasurements(
            coefficients=MergeCoefficients(method="linear", weights=[0.5, 0.5], branches={}),
            losses=first.losses, differences=first.differences, barriers=[], sharpness=[],
            geometry=None, sets=sets,
        ),
    )  # fmt: skip


def test_the_word_over_all_sets_is_the_worst() -> None:
    words: tuple[Word, ...] = ("better", "no-difference", "cannot-tell", "worse")
    for pair in product(words, words):
        found = overall(pair)
        if "worse" in pair or "cannot-tell" in pair:
            assert found == max(pair, key=words.index)
        else:
            assert found == min(pair, key=words.index)


def test_the_verdict_holds_one_a_set_and_the_numbers_of_the_worst() -> None:
    found = verdict_of(report_of(code=one_set(BETTER), chat=one_set(WORSE), prose=one_set(SAME)))
    assert found is not None
    assert {name: one.word for name, one in found.sets.items()} == {
        "code": "better", "chat": "worse", "prose": "no-difference"
    }  # fmt: skip
    assert (found.word, found.on, found.model, found.difference) == ("worse", "chat", "a", 0.3)
    assert "Too few" not in found.sentence
    one = json.loads(found.sets["code"].model_dump_json())
    assert set(one) & {"sets", "on", "score"} == set()


def test_a_set_that_was_not_measured_leaves_the_verdict_open() -> None:
    report = report_of(code=UNMEASURED, chat=one_set(BETTER))
    found = verdict_of(report)
    assert found is not None
    assert (found.word, found.on, found.difference) == ("cannot-tell", "code", None)
    assert not holds(report)
    assert holds(report, ["chat"])


def test_the_score_is_held_against_the_highest_of_the_parents() -> None:
    report = report_of(code=one_set(WORSE, (-0.1, 0.05)), chat=one_set(SAME))
    found = standings(report)["code"]
    assert found is not None
    assert found.score is not None
    assert (found.score.model, found.score.word) == ("b", "worse")
    assert found.score.difference == pytest.approx(-0.1)
    told = verdict_of(report)
    assert told is not None
    assert told.sets["code"].score == found.score
    assert told.sets["chat"].score is None


@pytest.mark.parametrize(
    ("sets", "by", "expected"),
    [
        ([], "loss", False),
        (["chat"], "loss", True),
        (["code"], "loss", False),
        (["code", "chat"], "loss", False),
        (["code"], "score", True),
        (["chat"], "score", False),  # its task has none
        (["unheard-of"], "loss", False),
    ],
)
def test_gates_ask_of_some_sets_by_loss_or_score(sets: list[str], by: By, expected: bool) -> None:
    report = report_of(code=one_set(WORSE, (0.0, 0.01)), chat=one_set(SAME))
    assert holds(report, sets, by) is expected
