"""Which skills were kept and which were lost, in words."""

from __future__ import annotations

import pytest

from mergekit_geo.records.sets import OutputSetEntry
from mergekit_geo.views.verdict import verdict, verdict_lines, verdict_of
from tests.views.set_reports import one_set, report_on

LOST, KEPT, GAINED, OPEN, FEW = (0.12, 0.03), (0.0, 0.02), (-0.05, 0.02), (0.0, 0.3), (0.1, None)


def test_the_first_line_tells_which_skill_was_lost() -> None:
    report = report_on({"code": one_set(KEPT), "docs": one_set(GAINED), "chat": one_set(LOST)})
    first, over_all = verdict_lines(report)
    assert first == (
        "The output loses 0.120 ± 0.030 nats per token on chat (6 %), keeps code (no significant "
        "difference from the best parent) and gains 0.050 ± 0.020 nats per token on docs (2.5 %)."
    )
    assert over_all == (
        "Over all sets its loss is +0.023 ± 0.050 beside the best parents on average, and +0.12 "
        "at worst, on chat."
    )
    told = verdict_of(report)
    assert told is not None
    assert told.sentence == verdict(report) == f"{first} {over_all}"


def test_a_unit_is_told_once_and_the_largest_loss_first() -> None:
    report = report_on({
        "a": one_set((0.1, 0.03)), "b": one_set((0.5, 0.03)), "c": one_set((0.2, 0.03), unit="byte")
    })  # fmt: skip
    assert verdict_lines(report)[0] == (
        "The output loses 0.500 ± 0.030 nats per token on b (25 %), 0.200 ± 0.030 nats per byte on "
        "c (10 %) and 0.100 ± 0.030 nats per token on a (5 %)."
    )


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (one_set(OPEN), "cannot be told from the best parent on b (only 0.43 or more would be"),
        (one_set(FEW), "cannot be told from the best parent on b (too few documents)."),
        (OutputSetEntry(data=one_set(KEPT).data, losses=[], reason="the loss is not a number"),
         "b was not measured: the loss is not a number."),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_said(other: OutputSetEntry, words: str) -> None:
    found = verdict(report_on({"a": one_set(KEPT), "b": other}))
    assert found.startswith("The output keeps a (no significant difference from the best parent)")
    assert words in found


def test_scores_that_say_something_else_are_told_by_set() -> None:
    report = report_on({
        "code": one_set(LOST, (-0.003, 0.01)), "chat": one_set(LOST, (-0.1, 0.01)),
        "docs": one_set(KEPT, (-0.1, 0.01)),
    })  # fmt: skip
    told = verdict_lines(report)[1:-1]
    assert told == [
        "On code it is less confident in the right answers, not less often right.",
        "On docs it is less often right, though the loss is not worse.",
    ]


def test_sets_in_unlike_units_are_averaged_in_percent() -> None:
    report = report_on({"a": one_set(LOST), "b": one_set(KEPT, unit="byte")})
    assert report.result is not None
    across = report.result.across.model_copy(update={"relative": True})  # type: ignore[union-attr]
    result = report.result.model_copy(update={"across": across})
    assert verdict_lines(report.model_copy(update={"result": result}))[-1] == (
        "Over all sets its loss is +6.0 ± 5.0 % beside the best parents on average, and +12 % at "
        "worst, on a."
    )
