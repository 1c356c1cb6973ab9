"""What is said of an output follows the numbers, their size, and what could have been seen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.losses import DataEntry, DifferenceEntry, Estimate, LossEntry
from mergekit_geo.records.merge import MergeCoefficients, MergeMeasurements, SelectionEntry
from mergekit_geo.records.model import ModelEntry
from mergekit_geo.records.report import Report
from mergekit_geo.records.standing import holds
from mergekit_geo.views.barrier import barrier_table
from mergekit_geo.views.chart import Dot, Dots
from mergekit_geo.views.losses import loss_chart, loss_table
from mergekit_geo.views.verdict import verdict, verdict_of

DATA = DataEntry(
    source="x.jsonl", digest="", documents=27, examples=27, available=27, tokens=27, seq_len=9,
    seed=0, unit="example", metric="accuracy",
)  # fmt: skip
HOSTILE = "Too few is worse than no significant difference"


def estimated(value: float, half: float) -> dict[str, Any]:
    """A number, and the interval and the detectable size of a standard error of half of 1.96."""
    return {"value": value, "low": value - half, "high": value + half, "detectable": half / 0.7}


def report_of(
    *differences: tuple[float, float], score: tuple[float, float] | None = None, **changes: Any
) -> Report:
    """An output minus parents of loss 2, 3, ..., each a value and half an interval."""
    names = [f"{HOSTILE} {i}" for i in range(len(differences))]
    metric = None if score is None else Estimate(**estimated(*score))
    result = MergeMeasurements(
        coefficients=MergeCoefficients(method="linear", weights=[0.5, 0.5], branches={}),
        losses=[
            *(
                LossEntry(model=name, role="parent", loss=2.0 + i, low=1, high=9, metric=0.5)
                for i, name in enumerate(names)
            ),
            LossEntry(model="output", role="output", loss=2.0, low=1, high=9, metric=0.5),
        ],
        differences=[
            DifferenceEntry(
                model=name, significant=abs(value) > half, metric=metric, **estimated(value, half)
            )
            for name, (value, half) in zip(names, differences, strict=True)
        ],
        barriers=[], sharpness=[], geometry=None, **changes,
    )  # fmt: skip
    models = [ModelEntry(name=name, revision=None, parameters=1) for name in names]
    return Report(command="soup", models=models, data=DATA, result=result)


@pytest.mark.parametrize(
    ("differences", "words", "expected"),
    [
        ([(0.23, 0.03), (-1, 0.1)], "The output is worse than the best parent, ", False),
        (
            [(-0.23, 0.03), (-1, 0.1)],
            "The output is better than every parent: 0.2300 [0.20",
            True,
        ),
        ([(-0.23, 0.03), (-1, 2)], "The output is better than the best parent, ", True),
        ([(0.01, 0.02), (-1, 0.1)], "No significant difference from the best parent, ", True),
        ([(0.01, 0.04), (-1, 0.1)], "Cannot tell the output from the best parent, ", False),
        ([(-0.9, 1.0), (-1, 2)], "Cannot tell the output from the best parent, ", False),
        ([(0.0, 0.0), (-1, 0.1)], "No difference from the best parent, ", True),
    ],
)
def test_words_and_gate_go_by_the_numbers(
    differences: list[tuple[float, float]], words: str, expected: bool
) -> None:
    """The best parent's loss is 2, of which 2 % are 0.04; names that say something else do not."""
    report = report_of(*differences)
    assert verdict(report).startswith(words)
    assert holds(report) is expected
    told = verdict_of(report)
    assert told is not None
    assert told.sentence == verdict(report)
    assert (told.word in {"better", "no-difference"}) is expected
    assert told.model == report.models[0].name
    value, half = differences[0]
    assert (told.difference, told.low, told.high) == (value, value - half, value + half)


def test_the_detectable_size_stands_beside_what_was_not_found() -> None:
    same, unknown = report_of((0.01, 0.02)), report_of((0.01, 0.07))
    assert verdict(same).endswith(
        ": +0.0100 [-0.0100, +0.0300], and one of 0.029 (1.4 % of its loss) would be detected."
    )
    assert verdict(unknown).endswith(
        ": +0.0100 [-0.0600, +0.0800], and only a difference of 0.1 (5 % of its loss) or more "
        "would be detected."
    )


@pytest.mark.parametrize(
    ("difference", "word"),
    [((0.23, 0.03), "worse"), ((-0.2, 0.03), "better"), ((0.01, 0.02), "no-difference"),
     ((0.01, 0.04), "cannot-tell")],
)  # fmt: skip
def test_the_verdict_is_a_word_for_programs(difference: tuple[float, float], word: str) -> None:
    found = verdict_of(report_of(difference, (-1, 0.1)))
    assert found is not None
    assert found.word == word


def test_without_losses_there_is_no_verdict() -> None:
    report = report_of()
    assert verdict_of(report) is None
    assert "verdict" not in json.loads(report.to_json())
    alone = verdict_of(report_of(unmerged="a"))
    assert alone is not None
    assert (alone.word, alone.model) == ("cannot-tell", None)


def test_too_few_documents_tell_nothing() -> None:
    report = report_of((0.01, 0.02))
    result = report.result
    assert isinstance(result, MergeMeasurements)
    few = DifferenceEntry(model=report.models[0].name, value=0.1, low=None, high=None,
                          significant=None)  # fmt: skip
    changed = report.model_copy(update={"result": result.model_copy(update={"differences": [few]})})
    assert verdict(changed).startswith("Too few documents to tell the output from the best parent")
    assert not holds(changed)


SAME = "Accuracy is the same (-0.003 ± 0.010, and one of 0.014 would be detected)"
HARDLY = "only 0.026 or more would be detected)"


@pytest.mark.parametrize(
    ("loss", "score", "words"),
    [
        # S1: a loss that is worse, an accuracy that is not, and 0.0260 that would be detected
        ((0.23, 0.03), (-0.003, 0.018), f"Accuracy is the same as far as can be told (-0.003 ± "
         f"0.018; {HARDLY}: less confident in the right answers, not measurably less often right."),
        ((0.23, 0.03), (-0.003, 0.01),
         f"{SAME}: less confident in the right answers, not less often right."),
        ((0.23, 0.03), (0.05, 0.018), "Accuracy is better by 0.050 ± 0.018: less confident in the "
         "right answers, more often right."),
        ((0.23, 0.03), (-0.05, 0.018), "Accuracy is worse, too, by 0.050 ± 0.018."),
        ((0.23, 0.03), (-0.05, 0.3), "Accuracy cannot be told apart (-0.05 ± 0.30; only 0.43 or "
         "more would be detected)."),
        ((0.0, 0.02), (-0.003, 0.01), f"{SAME}."),
        ((0.0, 0.02), (-0.05, 0.018), "Accuracy is worse by 0.050 ± 0.018: as confident in the "
         "right answers, less often right."),
        ((0.0, 0.02), (0.05, 0.018), ": as confident in the right answers, more often right."),
        ((-0.23, 0.03), (-0.003, 0.01),
         f"{SAME}: more confident in the right answers, not more often right."),
        ((-0.23, 0.03), (-0.05, 0.018), ": more confident in the right answers, less often right."),
        ((-0.23, 0.03), (0.05, 0.018), "Accuracy is better, too, by 0.050 ± 0.018."),
        ((0.1, 0.9), (-0.05, 0.018), "Accuracy is worse by 0.050 ± 0.018."),
    ],
)  # fmt: skip
def test_the_score_is_told_beside_the_loss(
    loss: tuple[float, float], score: tuple[float, float], words: str
) -> None:
    report = report_of(loss, score=score)
    assert verdict(report).endswith(words)
    table = loss_table(report)
    column = list(table.head).index("Δ accuracy ↑")
    assert table.rows[0][column].startswith(f"{score[0]:+.4f} ± {score[1]:.4f}")


def test_scores_of_benchmarks_are_told_in_points() -> None:
    report = report_of((0.23, 0.03), score=(0.013, 0.008))
    assert report.data is not None
    names = {"acc_norm": "Acc_norm", "strict-match exact_match": "Strict-match"}
    for metric, name in names.items():
        data = report.data.model_copy(update={"metric": metric})
        told = verdict(report.model_copy(update={"data": data}))
        assert name in told
        assert "better by 1.30 ± 0.80 points: less confident" in told


def test_one_model_is_no_merge() -> None:
    chosen = SelectionEntry(method="greedy", chosen="x", documents=9, steps=[])
    kept = report_of((0.0, 0.0), (-1, 0.1), selection=chosen, unmerged=f"{HOSTILE} 0")
    name = f"{HOSTILE} 0"
    assert verdict(kept) == f"Nothing helped {name}: the output is {name}, unmerged."
    assert holds(kept)
    worse = report_of((1.0, 0.1), (0.0, 0.0), unmerged=f"{HOSTILE} 1")
    assert f"The output is {HOSTILE} 1, unmerged: no other model has a part in it. " in verdict(
        worse
    )
    assert "The output is worse than the best parent" in verdict(worse)
    assert not holds(worse)
    one = report_of((0.0, 0.0), unmerged=name)
    assert verdict(one) == f"There is nothing to merge: the output is a copy of {name}."


def test_a_dip_is_told_with_its_own_place() -> None:
    first = Estimate(**estimated(-0.008, 0.001))
    dip = Estimate(**estimated(-0.026, 0.002))
    entry = BarrierEntry(
        first="a", second="b", along="linear", t=[0, 1], loss=[2, 2], metric=None, barrier=first,
        barrier_mean=first, error_barrier=None, t_max=0.25, path_max=2, path_mean=2,
        significant=False, verdict="", dip=dip, t_dip=0.5,
    )  # fmt: skip
    assert barrier_table([entry]).rows[0][1:3] == ["none (dips 0.0260 [0.0240, 0.0280])", "0.500"]
    flat = entry.model_copy(update={"dip": Estimate(**estimated(-0.01, 0.02))})
    assert barrier_table([flat]).rows[0][1:3] == ["none (-0.0080 [-0.0090, -0.0070])", "0.250"]


def test_losses_and_paired_differences_are_drawn() -> None:
    """Of a classifier the score's difference, too; of a language model the loss says more."""
    report = report_of((0.23, 0.03), (-1, 0.1), score=(0.05, 0.018))
    (found,) = loss_chart(report)
    assert isinstance(found.picture, Dots)
    losses, differences, scores = found.picture.panels
    assert [dot and dot.value for dot in losses.dots] == [2, 3, 2]
    assert differences.dots == [Dot(0.23, 0.2, 0.26), Dot(-1, -1.1, -0.9), None]
    assert (differences.reference, differences.title[-1]) == (0, "↓")
    assert scores.dots[0] == Dot(0.05, 0.05 - 0.018, 0.05 + 0.018)
    assert scores.title == "Δ accuracy ↑"
    assert found.picture.outstanding == [False, False, True]
    assert loss_table(report).head[:3] == ["model", "Δ output − model ↓", "loss per example ↓"]
    assert {(0, 2), (2, 2)} <= set(loss_table(report).best)  # both have a loss of 2
    assert loss_chart(report_of()) == []
