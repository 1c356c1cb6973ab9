"""CMA-ES told again from a study draws as one that was told as it went."""

from pathlib import Path

import cmaes
import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from mergekit_geo.searches.cma import STEP, UnitCube, rank
from mergekit_geo.searches.study import SearchStudy
from tests.searches.toy import Toy, loss, measured, search

SPACE = Toy(weights=3)


def opened(path: Path | None = None, **options: object) -> SearchStudy:
    return SearchStudy.open(path, "merge", {}, sampler="cmaes", **options)  # type: ignore[arg-type]


def seeds(count: int, seed: int) -> list[int]:
    words = [np.random.SeedSequence([seed, at]).generate_state(1)[0] for at in range(count)]
    return [int(word) % (1 << 31) for word in words]


def test_it_is_cma_es_as_told_one_draw_after_the_other() -> None:
    box = np.tile((0.0, 1.0), (3, 1))
    naive = cmaes.CMA(np.full(3, 0.5), STEP, box, n_max_resampling=30)
    expected, told = [], []
    for seed in seeds(30, seed=5):
        naive._rng = np.random.RandomState(seed)
        point = naive.ask()
        expected.append(point)
        told.append((point, float(np.sum((point - 0.7) ** 2))))
        if len(told) == naive.population_size:
            naive.tell(told)
            told = []
    found = [list(values.values()) for values in search(opened(seed=5), SPACE, 30)]
    assert np.allclose(found, expected, atol=1e-9)


def test_it_begins_at_the_best_of_the_queued_points_that_keeps_every_set() -> None:
    places = {"bad": 0.1, "good": 0.6, "lossy": 0.7}
    study = opened(constrained=True)
    study.enqueue([(title, {f"w{n}": at for n in range(3)}) for title, at in places.items()])
    drawn = search(study, SPACE, 9, lost={2: 0.1})[3:]
    assert study._trials()[3].system_attrs["cma:start"] == pytest.approx([0.6] * 3)
    assert np.mean([list(values.values()) for values in drawn]) == pytest.approx(0.6, abs=0.15)


def test_queued_points_are_in_no_generation() -> None:
    study = opened()
    study.enqueue([("default recipe", {"w0": 0.0, "w1": 0.0, "w2": 0.0})])
    search(study, SPACE, 20)
    notes = [trial.system_attrs.get("cma:generation") for trial in study._trials()]
    assert [note for note in notes if note] == [[0, *range(1, 8)], [1, *range(8, 15)]]


def test_what_comes_late_counts_in_the_generation_under_way(tmp_path: Path) -> None:
    """Four processes: no measured trial is wasted, and all read the same generations."""
    studies = [opened(tmp_path / "s.journal") for _ in range(4)]
    rng = np.random.default_rng(0)
    asked = [(study, *study.ask(SPACE)[:2]) for study in studies]
    for _ in range(26):
        study, number, values = asked.pop(rng.integers(len(asked)))
        study.tell(number, loss(values), measured(number, values))
        asked.append((study, *study.ask(SPACE)[:2]))
    told: dict[int, list[int]] = {}
    for trial in studies[0]._trials():
        if note := trial.system_attrs.get("cma:generation"):
            told.setdefault(note[0], note[1:])
    members = [number for generation in told.values() for number in generation]
    assert list(told) == list(range(3))
    assert len(members) == len(set(members)) == 21


def test_ranks_are_by_violation_first() -> None:
    """Deb (2000): what breaks no constraint, by value; then by how much it breaks them."""

    def trial(value: float, lost: float) -> object:
        return create_trial(value=value, constraints={"lost": lost})

    kept, better, little, much = trial(2, 0), trial(1, 0), trial(0, 0.1), trial(-9, 0.2)
    assert sorted([much, kept, little, better], key=rank) == [better, kept, little, much]


def test_a_box_scales_ranges_to_the_unit_cube_and_back() -> None:
    box = UnitCube({
        "weight": FloatDistribution(-1.0, 3.0), "density": FloatDistribution(0.01, 1.0, log=True),
    })  # fmt: skip
    assert box.point({"weight": 0.0, "density": 0.1}) == pytest.approx([0.25, 0.5])
    assert box.values([0.25, 0.5]) == pytest.approx({"weight": 0.0, "density": 0.1})
    assert box.values([1.0, 1.0]) == {"weight": 3.0, "density": 1.0}


@pytest.mark.parametrize("weights", [0, 1])
def test_a_space_of_one_number_or_none_is_searched(weights: int) -> None:
    study = opened()
    search(study, Toy(weights, density=weights == 0), 25)
    if weights:
        assert study.best is not None
        assert loss(study.best.values) < 1e-3
