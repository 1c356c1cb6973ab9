"""Samplers: which is chosen, what each draw depends on, and what constraints do to it."""

from pathlib import Path

import pytest
from optuna.trial import create_trial

from mergekit_geo.errors import ArgumentError
from mergekit_geo.searches.samplers import chosen
from mergekit_geo.searches.study import SearchStudy
from mergekit_geo.searches.trial import Values
from tests.searches.toy import Toy, loss, measured, search

MIXED = Toy(density=True, methods=("ties", "linear"))
GP = pytest.param("gp", marks=pytest.mark.slow)


def opened(path: Path | None = None, **options: object) -> SearchStudy:
    return SearchStudy.open(path, "merge", {}, **options)  # type: ignore[arg-type]


def test_auto_is_by_the_space_and_the_aims() -> None:
    assert chosen("auto", Toy(), 1) == "cmaes"
    assert chosen("auto", MIXED, 1) == "tpe"
    assert chosen("auto", Toy(), 2) == chosen("auto", MIXED, 2) == "nsga2"


def test_what_a_sampler_does_not_search_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"cmaes knows no choices, only ranges .*tpe"):
        opened(sampler="cmaes").ask(MIXED)
    with pytest.raises(ArgumentError, match="cmaes minimises one number only"):
        opened(sampler="cmaes", aims=2).ask(Toy())
    with pytest.raises(ArgumentError, match=r"no sampler 'grid' \(one of auto, cmaes, tpe"):
        opened(sampler="grid").ask(Toy())


@pytest.mark.parametrize("kind", ["cmaes", "tpe", "random", "nsga2", GP])
def test_a_search_that_is_taken_up_draws_what_it_would_have_drawn(
    tmp_path: Path, kind: str
) -> None:
    count = {"random": 4}.get(kind, 14)
    whole = search(opened(tmp_path / "whole", sampler=kind, seed=3), Toy(), count)
    begun = search(opened(tmp_path / "parts", sampler=kind, seed=3), Toy(), count // 2 - 1)
    ended = search(opened(tmp_path / "parts", sampler=kind, seed=3), Toy(), count - len(begun))
    assert begun + ended == whole
    assert len({tuple(values.values()) for values in whole}) == count


@pytest.mark.parametrize("kind", ["cmaes", "tpe", "random"])
def test_processes_of_one_study_never_draw_the_same(tmp_path: Path, kind: str) -> None:
    studies = [opened(tmp_path / "s.journal", sampler=kind, seed=1) for _ in range(2)]
    places = []
    for _ in range(8):
        asked = [(study, *study.ask(Toy())) for study in studies]
        places += [tuple(values.values()) for _, _, values, _ in asked]
        for study, number, values, _ in reversed(asked):
            study.tell(number, loss(values), measured(number, values))
    assert len(set(places)) == 16


@pytest.mark.parametrize("kind", ["cmaes", "tpe", "nsga2", GP])
def test_places_that_lose_on_a_set_to_keep_are_left(kind: str) -> None:
    """The lowest loss is at w0 = 0.7, and w0 above 0.3 is not allowed."""
    study = opened(sampler=kind, constrained=True)
    count, last = (24, 8) if kind == "gp" else (96, 24)
    places: list[Values] = []
    for _ in range(count):
        number, values, _ = study.ask(Toy())
        lost = max(0.0, float(values["w0"]) - 0.3)
        study.tell(number, loss(values), measured(number, values), lost=lost)
        places.append(values)
    kept = sum(float(values["w0"]) <= 0.3 for values in places[-last:])
    assert kept > last / 2
    assert study.best is not None
    assert float(study.best.values["w0"]) == pytest.approx(0.3, abs=0.1)


def test_the_first_generation_of_several_aims_has_the_points_that_were_queued() -> None:
    study = opened(aims=2)
    study.enqueue([("default recipe", {"w0": 0.5, "w1": 0.5})])
    number, _, title = study.ask(Toy())
    assert title == "default recipe"
    notes = study._trials()[number].system_attrs
    assert notes["Nsga2:generation"] == 0


def test_a_mixed_space_is_searched_with_its_choices() -> None:
    study = opened()
    for _ in range(40):
        number, values, _ = study.ask(MIXED)
        worse = 0.0 if values["merge_method"] == "ties" else 0.5
        study.tell(number, loss(values) + worse, measured(number, values))
    later = [trial.values["merge_method"] for trial in study.finished()[-15:]]
    assert later.count("ties") > 10
    assert study.best is not None
    assert study.best.values["merge_method"] == "ties"


def test_a_trial_of_another_tool_is_no_start_and_does_no_harm() -> None:
    study = opened()
    study._study.add_trial(create_trial(value=0.5))
    search(study, Toy(), 8)
    assert len(study.finished()) == 9
