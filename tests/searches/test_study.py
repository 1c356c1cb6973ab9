"""A study: what is asked is told, once, by whichever process, and kept."""

import math
from pathlib import Path

import numpy as np
import pytest

from mergekit_geo.errors import ArgumentError
from mergekit_geo.searches.study import SearchStudy
from mergekit_geo.searches.trial import Outcome
from tests.searches.toy import Toy, loss, measured, search

SPACE = Toy()
IDENTITY = {"space": {"w0": [0, 1]}, "data": {"docs": "a1"}}


def opened(path: Path | None = None, **options: object) -> SearchStudy:
    return SearchStudy.open(path, "merge", IDENTITY, **options)  # type: ignore[arg-type]


def test_what_is_told_is_found_again(tmp_path: Path) -> None:
    study = opened(tmp_path / "s.journal", constrained=True)
    study.enqueue([("default recipe", {"w0": 0.5, "w1": 0.5})])
    number, values, title = study.ask(SPACE)
    assert (number, dict(values), title) == (0, {"w0": 0.5, "w1": 0.5}, "default recipe")
    losses = (np.array([1 / 3, 2e-300]), np.array([0.1]))
    outcome = Outcome(0, losses, share=0.9, seconds=2.5)
    study.tell(0, 0.25, outcome, lost=0.01, interval=(0.2, 0.3))
    (found,) = opened(tmp_path / "s.journal").finished()
    assert found.title == title
    assert found.values == values
    assert found.value == 0.25
    assert (found.share, found.seconds, found.lost) == (0.9, 2.5, 0.01)
    assert found.interval == (0.2, 0.3)
    assert not found.stopped
    assert not found.error
    for told, kept in zip(losses, found.losses or (), strict=True):
        assert np.array_equal(told, kept)


def test_a_stopped_trial_is_complete_for_the_sampler_and_never_the_best() -> None:
    study = opened()
    (number, _, _), (other, _, _) = study.ask(SPACE), study.ask(SPACE)
    study.tell(number, 0.0, Outcome(number, (np.array([0.0]),), stopped=True, share=0.2))
    study.tell(other, 1.0, Outcome(other, (np.array([1.0]),)))
    stopped, whole = study.finished()
    assert stopped.stopped
    assert stopped.losses is None
    assert stopped.value == 0.0
    assert study.best == whole


def test_the_best_keeps_every_set_and_the_least_bad_is_named_where_none_does() -> None:
    study = opened(constrained=True)
    search(study, SPACE, 4, lost=dict.fromkeys(range(4), 0.3) | {2: 0.1})
    assert study.best is None
    assert study.least_bad is not None
    assert study.least_bad.number == 2
    search(study, SPACE, 1)
    assert study.best is not None
    assert study.best.number == 4


def test_several_aims_have_a_front_and_no_best() -> None:
    study = opened(aims=2)
    for told in ([1.0, 3.0], [2.0, 2.0], [2.5, 2.5], [3.0, 1.0]):
        number, values, _ = study.ask(SPACE)
        study.tell(number, told, measured(number, values))
    assert study.best is None
    assert [trial.number for trial in study.front] == [0, 1, 3]


def test_a_trial_that_is_given_back_is_asked_for_again(tmp_path: Path) -> None:
    """So a search that ends early loses none of the points that it began with."""
    study = opened(tmp_path / "s.journal")
    study.enqueue([("default recipe", {"w0": 0.5, "w1": 0.5})])
    asked = [study.ask(SPACE) for _ in range(2)]
    for _ in range(2):
        for number, values, title in asked:
            assert (values, title) == (asked[number % 2][1], asked[number % 2][2])
            study.give_back(number)
        study = opened(tmp_path / "s.journal")
        assert study.finished() == []
        asked = [study.ask(SPACE) for _ in range(2)]
    whole = opened()
    whole.enqueue([("default recipe", {"w0": 0.5, "w1": 0.5})])
    assert [values for _, values, _ in asked] == search(whole, SPACE, 2)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_fails_the_trial(value: float) -> None:
    study = opened()
    number, values, _ = study.ask(SPACE)
    study.tell(number, value, measured(number, values))
    (found,) = study.finished()
    assert "not finite" in found.error
    assert not found.told
    assert study.best is None
    assert study.least_bad is None


def test_a_trial_that_failed_is_told_with_its_reason() -> None:
    study = opened()
    study.enqueue([("uniform soup", {"w0": 0.5, "w1": 0.5})])
    number, _, _ = study.ask(SPACE)
    study.fail(number, "out of memory")
    (found,) = study.finished()
    assert (found.error, found.title) == ("out of memory", "uniform soup")


def test_points_are_queued_once_by_whoever_comes_first(tmp_path: Path) -> None:
    starts = [("default recipe", {"w0": 0.5, "w1": 0.5}), ("parent a", {"w0": 1.0, "w1": 0.0})]
    first, second = (opened(tmp_path / "s.journal") for _ in range(2))
    first.enqueue(starts)
    second.enqueue(starts)
    titles = [study.ask(SPACE)[2] for study in (first, second, first)]
    assert titles == ["default recipe", "parent a", ""]


def test_points_that_two_processes_queue_at_the_same_time_are_measured_once() -> None:
    starts = [("default recipe", {"w0": 0.5, "w1": 0.5})]
    study = opened()
    study.enqueue(starts)
    study._study.enqueue_trial(dict(starts[0][1]), user_attrs={"title": starts[0][0]})
    search(study, SPACE, 3)
    assert [trial.title for trial in study.finished()] == ["default recipe", "", ""]


def test_the_first_process_settles_the_numbers_of_examples(tmp_path: Path) -> None:
    first, second = (opened(tmp_path / "s.journal") for _ in range(2))
    assert first.counts == {}
    assert second.settled({"docs": 40}) == {"docs": 40}
    assert first.counts == {"docs": 40}
    assert first.settled({"docs": 90}) == {"docs": 40}


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"space": {"w0": [0, 2]}}, r"space w0\[1\] is 1 there and 2 here"),
        ({"data": {"docs": "b2"}}, "data docs is 'a1' there and 'b2' here"),
        ({"data": {"docs": "a1", "code": "c"}}, "data code is missing there and 'c' here"),
    ],
)
def test_a_study_of_another_search_is_refused_with_what_differs(
    tmp_path: Path, other: dict[str, object], what: str
) -> None:
    search(opened(tmp_path / "s.journal"), SPACE, 1)
    with pytest.raises(ArgumentError, match=rf"'merge' is of another search: {what} .*--study"):
        SearchStudy.open(tmp_path / "s.journal", "merge", {**IDENTITY, **other})
    SearchStudy.open(tmp_path / "s.journal", "another", {**IDENTITY, **other})


def test_another_number_of_aims_is_another_search(tmp_path: Path) -> None:
    search(opened(tmp_path / "s.journal"), SPACE, 1)
    with pytest.raises(ArgumentError, match="another search: aims is 1 there and 2 here"):
        opened(tmp_path / "s.journal", aims=2)


def test_importance_is_of_what_moves_the_loss() -> None:
    study = opened(sampler="random")
    assert study.importances() == {}
    for _ in range(20):
        number, values, _ = study.ask(SPACE)
        study.tell(number, (float(values["w0"]) - 0.5) ** 2, measured(number, values))
    shares = study.importances()
    assert shares["w0"] > 0.8
    assert math.isclose(sum(shares.values()), 1.0)


def test_there_is_no_importance_where_nothing_moves_the_loss() -> None:
    study = opened(sampler="random")
    for _ in range(9):
        number, values, _ = study.ask(SPACE)
        study.tell(number, 1.0, measured(number, values))
    assert study.importances() == {}


def test_optuna_says_nothing_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    study = opened(constrained=True)
    study.enqueue([("default recipe", {"w0": 0.5, "w1": 0.5})])
    search(study, Toy(density=True, methods=("ties", "linear")), 12, lost={3: 0.5})
    assert capfd.readouterr() == ("", "")


def test_a_search_finds_the_minimum() -> None:
    study = opened()
    search(study, SPACE, 60)
    assert study.best is not None
    assert loss(study.best.values) < 1e-3


def test_a_study_without_trials_gives_way_to_another_search(tmp_path: Path) -> None:
    """But not where another process may have it open, which is about to make the first."""
    at, other = tmp_path / "s.journal", {"data": {"docs": "b2"}}
    opened(at).enqueue([("default recipe", {"w0": 0.5, "w1": 0.5})])
    with pytest.raises(ArgumentError, match="data docs is 'a1' there and 'b2' here"):
        SearchStudy.open(at, "merge", other)
    study = SearchStudy.open(at, "merge", other, shared=False)
    assert study.counts == {}
    search(study, SPACE, 1)
    with pytest.raises(ArgumentError, match="data docs is 'b2' there and 'a1' here"):
        opened(at, shared=False)
