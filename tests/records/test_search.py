"""The record of a search: whole in JSON, and short where it holds nothing."""

from __future__ import annotations

import json

import pytest

from mergekit_geo.records.report import Report
from mergekit_geo.records.search import SearchEntry, TrialEntry
from tests.views.search_reports import search_report, searched


@pytest.mark.parametrize("pareto", [False, True])
def test_a_report_holds_a_search_through_json(pareto: bool) -> None:
    found = search_report(searched(20, pareto=pareto, lost=(7,)))
    assert Report.model_validate_json(found.to_json()) == found


def test_a_plain_trial_says_nothing_of_what_did_not_happen() -> None:
    trial = TrialEntry(number=3, values={"t": 0.5}, value=2.0, low=1.9, high=2.1, seconds=4.0)
    assert list(json.loads(trial.model_dump_json())) == [
        "number", "values", "value", "low", "high", "share", "seconds",
    ]  # fmt: skip


def test_a_trial_is_whole_and_feasible_unless_it_was_stopped_failed_or_lost_a_set() -> None:
    plain = TrialEntry(number=0, values={})
    changed = [plain.model_copy(update=each) for each in
               ({}, {"stopped": True}, {"error": "killed"}, {"lost": 0.1})]  # fmt: skip
    assert [trial.is_whole for trial in changed] == [True, False, False, True]
    assert [trial.is_feasible for trial in changed] == [True, True, True, False]


def test_a_trial_is_found_by_its_number() -> None:
    entry: SearchEntry = searched(5)
    assert entry.trial(3) is entry.trials[3]
    assert entry.trial(None) is None is entry.trial(99)
