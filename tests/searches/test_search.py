"""A search: the best of many merges is written, and measured where it was not chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import mergekit_geo as geo
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.errors import ArgumentError, DataError, RecipeError
from mergekit_geo.records.search import SearchEntry, TrialEntry
from mergekit_geo.searches.candidates import Candidates
from mergekit_geo.searches.space import Space

HOW: dict[str, Any] = {"sharpness": "off", "compute": geo.Compute(device="cpu", budget=0)}
WEIGHT = {"weight": {"min": 0, "max": 2}}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two files of other documents, a set each."""
    folder = tmp_path_factory.mktemp("texts")
    words = [" ".join(document.text.split()) for document in builtin_documents("train")]
    found = {}
    for name, parts in {
        "code": [text[:120] for text in words[:50]],
        "chat": [text[200:320] for text in words[:50]],
    }.items():
        (folder / f"{name}.txt").write_text("\n\n".join(parts))
        found[name] = str(folder / f"{name}.txt")
    return found


def linear(folder: Path) -> dict[str, Any]:
    models = [{"model": str(folder / name), "parameters": WEIGHT} for name in ("a", "b")]
    return {"merge_method": "linear", "models": models}


def ties(folder: Path) -> dict[str, Any]:
    return {
        **linear(folder),
        "merge_method": "ties",
        "base_model": str(folder / "base"),
        "parameters": {"density": {"min": 0.2, "max": 1}},
    }


def searched(recipe: Any, out: Path | None, data: Any, **more: Any) -> geo.Result:
    return geo.search(recipe, out, data=data, **{**HOW, "trials": 6, "learned": False, **more})


def entry(found: geo.Result) -> SearchEntry:
    made: SearchEntry = found.measurements.search
    return made


def drawn(found: geo.Result) -> list[tuple[dict[str, Any], float | None]]:
    return [(trial.values, trial.value) for trial in entry(found).trials]


@pytest.mark.slow
def test_the_output_is_the_best_trial_and_its_recipe_makes_the_same_bytes(
    small: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    found = searched(ties(small), tmp_path / "out", texts, aiming=geo.SearchAim("worst"))
    made = entry(found)
    whole = [one for one in made.trials if one.is_whole]
    assert len(made.trials) == 6
    assert made.trials[made.taken or 0] == min(whole, key=lambda one: one.value or 0)
    assert (tmp_path / "out.study.log").is_file()
    again = geo.run(tmp_path / "out" / "recipe.yml", tmp_path / "again", data=None)
    assert again.out is not None
    first, second = (folder / "model.safetensors" for folder in (tmp_path / "out", again.out))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_what_trials_count_is_what_their_merges_lose(
    small: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    found = searched(ties(small), None, texts, racing=False, trials=3)
    folder = ties(small)
    for trial in entry(found).trials:
        recipe = Space.of(folder).resolved(trial.values)
        geo.run(recipe, tmp_path / str(trial.number), data=None)
        rises = selection_rises([small / "base", small / "a", small / "b"],
                                tmp_path / str(trial.number), texts)  # fmt: skip
        assert trial.by_set == pytest.approx(rises, abs=1e-6)
        assert trial.value == pytest.approx(np.mean(list(rises.values())), abs=1e-6)


def selection_rises(parents: list[Path], model: Path, texts: dict[str, str]) -> dict[str, float]:
    """Loss minus that of the best parent on the selection half, by other code."""
    from mergekit_geo.evaluation.points import PointEvaluator
    from mergekit_geo.evaluation.study import Study
    from mergekit_geo.specs.measures import BarrierSpec

    models = [str(one) for one in (*parents, model)]
    asked = BarrierSpec(models, data=texts, compute=HOW["compute"])
    study = Study.open(asked.models, asked, _nowhere())
    found = {}
    for one in PointEvaluator.open(study, 4).every:
        rows = one.split.selection
        means = [one.at_model(i).take(rows).mean for i in range(len(models))]
        found[one.study.name] = means[-1] - min(means[:-1])
    return found


def _nowhere() -> Any:
    from mergekit_geo.config.output import OutputConfig
    from mergekit_geo.outputs.kind import Kind
    from mergekit_geo.outputs.output import Output

    return Output.of(None, Kind(), OutputConfig(), [])


@pytest.mark.slow
def test_a_search_goes_on_where_it_ended(
    small: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    whole = searched(linear(small), tmp_path / "whole", texts)
    searched(linear(small), tmp_path / "out", texts, trials=3)
    overwrite = geo.OutputConfig(overwrite=True)
    rest = searched(linear(small), tmp_path / "out", texts, output=overwrite)
    assert drawn(rest) == drawn(whole)


@pytest.mark.slow
def test_several_aims_give_a_front_and_take_writes_a_point_of_it(
    small: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    pareto: dict[str, Any] = {"aiming": geo.SearchAim("pareto"), "study": "s"}
    storage = str(tmp_path / "s.log")
    found = searched(linear(small), tmp_path / "front", texts, storage=storage, **pareto)
    made = entry(found)
    assert not (tmp_path / "front" / "model.safetensors").exists()
    points = {one.number: list(one.by_set.values()) for one in made.trials if one.is_whole}
    for number in made.front:
        others = (point for other, point in points.items() if other != number)
        assert not any(np.all(np.array(point) < points[number]) for point in others)
    taken = searched(
        linear(small), tmp_path / "out", texts, storage=storage, take=made.front[-1], **pareto
    )
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert entry(taken).taken == made.front[-1]
    assert len(entry(taken).trials) == len(made.trials)


@pytest.mark.slow
def test_a_constraint_that_no_trial_meets_names_the_least_bad_and_take_writes_it(
    small: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    worse = ruined(small, tmp_path)
    recipe = {"merge_method": "linear", "models": [
        {"model": str(small / "a"), "parameters": {"weight": {"min": 0.1, "max": 0.3}}},
        {"model": str(worse), "parameters": {"weight": {"min": 0.7, "max": 1}}},
    ]}  # fmt: skip
    keep = geo.SearchAim(keep=["code"])
    with pytest.raises(DataError, match=r"no trial keeps code; the least bad, trial \d") as caught:
        searched(recipe, tmp_path / "out", texts, aiming=keep)
    assert not (tmp_path / "out").exists()
    number = int((caught.value.remedy or "").split()[1])
    taken = searched(recipe, tmp_path / "out", texts, aiming=keep, take=number)
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert entry(taken).trials[number].lost > 0


def ruined(small: Path, tmp_path: Path) -> Path:
    """A model that nobody would merge."""
    import shutil

    from safetensors.torch import save_file

    shutil.copytree(small / "b", tmp_path / "worse")
    state = load_file(small / "b" / "model.safetensors")
    save_file(
        {name: -20 * tensor for name, tensor in state.items()},
        tmp_path / "worse" / "model.safetensors",
        metadata={"format": "pt"},
    )
    return tmp_path / "worse"


def test_methods_over_some_of_the_models_are_points_of_them_alone(small: Path) -> None:
    recipe = {
        "merge_method": {"choices": [
            {"merge_method": "ties", "parameters": {"density": {"min": 0.2, "max": 1}}},
            {"merge_method": "slerp", "base_model": str(small / "a"),
             "parameters": {"t": {"min": 0, "max": 1}}},
        ]},
        "base_model": str(small / "base"),
        "models": [{"model": str(small / name), "parameters": {"weight": 0.5}} for name in "ab"],
    }  # fmt: skip
    candidates = Candidates.open(Space.of(recipe), {}, geo.ReshapeConfig())
    (name,) = (one.name for one in candidates.space.dimensions if one.parameter == "t")
    found = candidates.point({"merge_method": "slerp", name: 0.25}, "")
    state = blended(candidates, found)
    ends = [str(small / "a"), str(small / "b")]
    plain = geo.slerp(ends, t=0.25, data=None).state
    assert plain is not None
    assert all(torch.equal(plain[name], tensor) for name, tensor in state.items())


def test_the_best_is_written_where_its_method_is_over_some_of_the_models(
    small: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    recipe = {
        **ties(small),
        "merge_method": {"choices": [{"merge_method": "linear", "base_model": None}, "ties"]},
    }
    found = searched(recipe, tmp_path / "out", texts, trials=1)
    assert found.out is not None
    assert "base_model" not in (found.out / "recipe.yml").read_text()
    again = geo.run(found.out / "recipe.yml", tmp_path / "again", data=None)
    assert again.out is not None
    first, second = (folder / "model.safetensors" for folder in (found.out, again.out))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("{weight: [{filter: mpl, value: {min: 0, max: 1}}, 0.5]}",
         r"line 4: weight of a \(mpl\): no tensor .* depends on this: .*the nearest: .*mlp"),
        ("{weight: [0.5, {filter: mlp, value: {min: 0, max: 1}}]}",
         r"line 4: weight of a \(mlp\): no tensor .*an entry without a filter matches first"),
    ],
)  # fmt: skip
def test_ranges_that_no_tensor_follows_are_refused(
    small: Path, tmp_path: Path, parameters: str, words: str
) -> None:
    (tmp_path / "recipe.yml").write_text(
        f"merge_method: linear\nmodels:\n- model: {small / 'a'}\n  parameters: {parameters}\n"
        f"- model: {small / 'b'}\nparameters: {{weight: 1}}\n"
    )
    with pytest.raises(RecipeError, match=words):
        searched(tmp_path / "recipe.yml", tmp_path / "out", "builtin:python-docs")


def blended(candidates: Candidates, point: Any) -> dict[str, torch.Tensor]:
    from mergekit_geo.merging.memory import MemorySink
    from mergekit_geo.merging.stream import stream

    blend = point.blend(candidates.prepared.checkpoints)
    sink = MemorySink(blend)
    stream(blend, sink)
    return sink.state


class Place(nn.Module):
    """One weight."""

    def __init__(self, x: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([x], dtype=torch.float64))


def squared(model: nn.Module, target: torch.Tensor) -> torch.Tensor:
    assert isinstance(model, Place)
    return (model.w - target).square().squeeze(1)


def bowl(lowest: float) -> geo.FunctionObjective:
    """A loss that is least at a place, with some noise over its examples."""
    noise = torch.randn(40, 1, generator=torch.Generator().manual_seed(0)) / 10
    return geo.FunctionObjective(squared, list((lowest + noise).chunk(4)))


def test_the_minimum_of_a_quadratic_is_found() -> None:
    recipe = {
        "merge_method": "linear",
        "models": [{"model": name, "parameters": WEIGHT} for name in ("low", "high")],
        "parameters": {"normalize": False},
    }
    places = {"low": Place(0.0), "high": Place(1.0)}
    found = searched(recipe, None, bowl(1.4), models=places, trials=40, racing=False)
    assert found.state is not None
    assert float(found.state["w"]) == pytest.approx(1.4, abs=0.05)
    made = entry(found)
    assert made.better_than_default is True
    default = next(one for one in made.references if one.title == "default recipe")
    assert default.difference.value == pytest.approx(-(0.9**2), abs=0.05)


def test_a_default_that_nothing_beats_is_no_worse_than_what_was_found() -> None:
    recipe = {
        "merge_method": "linear",
        "models": [{"model": name, "parameters": WEIGHT} for name in ("low", "high")],
    }
    places = {"low": Place(1.0), "high": Place(1.0)}
    found = searched(recipe, None, bowl(1.0), models=places, racing=False)
    assert entry(found).better_than_default is False


Bad = tuple[Callable[[Path], Any], dict[str, Any], type[Exception], str]


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"data": None}, ArgumentError, "--no-eval measures none"),
        ({"data": geo.EvalData()}, ArgumentError, "would be tuned to the built-in text"),
        ({"take": 99}, ArgumentError, "--take 99: there is no such trial"),
        ({"ray_address": "x"}, ArgumentError, "--ray-address and --num-gpus are of a Ray cluster"),
        ({"base": "d"}, ArgumentError, "--base is of a search without a recipe"),
        ({"methods": ["ties"]}, ArgumentError, "--methods is of a search without a recipe"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    small: Path, texts: dict[str, str], tmp_path: Path, more: dict[str, Any],
    error: type[Exception], words: str,
) -> None:  # fmt: skip
    asked = {"data": texts, **more}
    with pytest.raises(error, match=words):
        searched(linear(small), tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_a_method_that_chooses_by_loss_is_not_searched(small: Path, texts: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match="greedy chooses by loss itself"):
        searched({**linear(small), "merge_method": "greedy"}, None, texts)


def test_a_study_of_other_data_under_its_name_is_refused(
    small: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    storage = str(tmp_path / "s.log")
    searched(linear(small), None, texts["code"], storage=storage, trials=2)
    with pytest.raises(ArgumentError, match="of another search: data"):
        searched(linear(small), None, texts["chat"], storage=storage, trials=2)


def test_the_best_so_far_falls() -> None:
    steps = [TrialEntry(number=i, values={}, value=v) for i, v in enumerate([3.0, 4.0, 2.0])]
    from mergekit_geo.searches.searching import _improvements

    made = SearchEntry(
        sampler="cmaes", engine="local", study="s", dimensions=[], trials=steps, evaluations=3,
        documents=9,
    )  # fmt: skip
    assert [value for _, value in _improvements(made)] == [3.0, 2.0]
