"""Merges by methods that need data of the models: Fisher and uncertainty-weighted means."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import mergekit_geo as geo
from mergekit_geo.config.model_data import ModelData
from mergekit_geo.errors import ArgumentError, DataError, RecipeError
from mergekit_geo.records.merge import MergeMeasurements
from tests.models import random_state

SENTENCES = [f"The {word} of number {i} is told in full, and so is what follows." for i in range(12)
             for word in ("story", "law", "river")]  # fmt: skip


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one.jsonl and two.jsonl."""
    folder = tmp_path_factory.mktemp("texts")
    for name, part in (("one", SENTENCES[::2]), ("two", SENTENCES[1::2])):
        rows = (json.dumps({"text": text}) for text in part)
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def weights_in(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def fishers_in(cache: Path) -> list[Path]:
    return sorted((cache / "mergekit_geo").glob("*/statistics.safetensors"))


def measured(result: geo.Result) -> MergeMeasurements:
    assert isinstance(result.measurements, MergeMeasurements)
    return result.measurements


def test_each_model_counts_by_its_fisher_on_its_own_data(
    small: Path, texts: Path, tmp_path: Path
) -> None:
    data = {"a": str(texts / "one.jsonl"), "b": str(texts / "two.jsonl")}
    models = [str(small / "a"), str(small / "b")]
    settings = {"method": "fisher", "fisher_examples": 8, "data": None}
    done = geo.merge(models, tmp_path / "out", train_data=data, **settings)
    found = [load_file(path) for path in fishers_in(tmp_path / "cache")]
    assert len(found) == 2
    a, b, merged = (weights_in(place) for place in (small / "a", small / "b", tmp_path / "out"))
    name = "model.layers.0.mlp.up_proj.weight"
    shares = [one[name].double().clamp(min=1e-6) for one in found]
    ways = [
        (first * a[name] + second * b[name]) / (first + second)
        for first, second in (shares, shares[::-1])
    ]
    assert min((merged[name] - way).abs().max() for way in ways) < 1e-7
    entries = measured(done).statistics
    assert [(one.model, one.kind, one.labels, one.examples) for one in entries] == [
        (models[0], "Fisher", "sampled", 8), (models[1], "Fisher", "sampled", 8),
    ]  # fmt: skip
    assert [one.source for one in entries] == list(data.values())
    assert not any(one.reused or one.shared for one in entries)
    assert entries[0].digest != entries[1].digest

    again = geo.merge(models, tmp_path / "again", train_data=data, **settings)
    assert all(one.reused for one in measured(again).statistics)
    assert weights_in(tmp_path / "again").keys() == merged.keys()
    assert all(torch.equal(t, merged[n]) for n, t in weights_in(tmp_path / "again").items())


def test_a_recipe_and_a_command_line_say_the_same(small: Path, texts: Path, tmp_path: Path) -> None:
    one, two = (str(texts / f"{name}.jsonl") for name in ("one", "two"))
    base, a, b = (str(small / name) for name in ("base", "a", "b"))
    called = geo.merge(
        [a, b], tmp_path / "out", method="uncertainty", base=base, fisher_examples=8, weights=0.5,
        train_data=[one, f"b={two}"], data=None,  # type: ignore[arg-type]
    )  # fmt: skip
    entries = measured(called).statistics
    assert [entry.shared for entry in entries] == [True, True, False]
    recipe = {
        "merge_method": "uncertainty",
        "base_model": base,
        "models": [
            {"model": a, "parameters": {"weight": 0.5}},
            {"model": b, "parameters": {"weight": 0.5}, "train_data": two},
        ],
        "parameters": {"fisher_examples": 8},
        "train_data": one,
    }
    followed = geo.run(recipe, tmp_path / "followed", data=None)
    expected = weights_in(tmp_path / "out")
    for name, tensor in weights_in(tmp_path / "followed").items():
        assert torch.equal(tensor, expected[name])
    assert all(entry.reused for entry in measured(followed).statistics)
    said = measured(called).coefficients.recipe
    assert isinstance(said, dict)
    assert said["train_data"] == {base: one, a: one, b: two}
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{os.path.relpath(b, tmp_path / 'out')}: {os.path.relpath(two, tmp_path / 'out')}" in (
        card.replace(b, os.path.relpath(b, tmp_path / "out"))
    )


SETTINGS = {"method": "fisher", "data": None}


@pytest.mark.parametrize(
    ("train_data", "more", "match"),
    [
        (None, {}, "fisher needs training data of each model .*, and a, b have none"),
        ({"a": "x.jsonl"}, {}, "and b has none"),
        ({"z": "x.jsonl"}, {}, "training data of 'z', which is none of the models"),
        ({"a": "x.jsonl"}, {"method": "linear"}, "linear needs no data of single models"),
        (["x.jsonl", "y.jsonl"], {}, "two sources of training data for all models"),
        (["a=x.jsonl", "a=y.jsonl"], {}, "model a has two sources of training data"),
        (None, {"method": "uncertainty"}, "uncertainty needs a base"),
    ],
)
def test_data_that_cannot_be_meant(train_data: object, more: dict[str, object], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        geo.merge(["a", "b"], train_data=train_data, **{**SETTINGS, **more})  # type: ignore[arg-type]


def test_a_name_that_two_models_have() -> None:
    found = ModelData((("a", geo.EvalData("x.jsonl")),))
    with pytest.raises(ArgumentError, match="training data of 'a', which may be org/a, runs/a"):
        found.of(["org/a", "runs/a"])
    assert [one.is_nothing for one in found.of(["org/a@main", "b"])] == [False, True]


def test_methods_that_need_data_are_refused_where_none_can_be_used(small: Path) -> None:
    ranges = {"parameters": {"weight": {"min": 0, "max": 1}}}
    models = [{"model": str(small / name), **ranges} for name in "ab"]
    searched = {"merge_method": "fisher", "models": models, "train_data": "x.jsonl"}
    with pytest.raises(RecipeError, match="fisher needs data of each model, and a search"):
        geo.search(searched, data="held-out.jsonl")
    with pytest.raises(ArgumentError, match="uncertainty needs data of each model, and is not se"):
        geo.search(["a", "b"], base="c", methods=["uncertainty"], data="held-out.jsonl")
    plain = {"merge_method": "fisher", "models": [{"model": str(small / name)} for name in "ab"]}
    for planned in (False, True):
        with pytest.raises(ArgumentError, match="fisher needs training data of each model"):
            geo.run(plain, data=None, dry_run=planned)
    sources = [{"model": str(small / name), "layer_range": [0, 1]} for name in "ab"]
    sliced = {"merge_method": "fisher", "slices": [{"sources": sources}], "train_data": "x.jsonl"}
    with pytest.raises(RecipeError, match="fisher weighs whole models by their data, and slices"):
        geo.run(sliced, data=None)


def test_a_model_that_nothing_reads_text_for() -> None:
    states = [random_state(name) for name in "ab"]
    with pytest.raises(DataError, match="nothing says how the model reads the data"):
        geo.merge(states, train_data="builtin:python-docs", **SETTINGS)  # type: ignore[arg-type]


def test_models_in_memory_on_a_function_of_the_callers() -> None:
    modules = [torch.nn.Linear(2, 1, bias=False) for _ in range(2)]
    inputs = [torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 2.0]])]

    def loss(model: torch.nn.Module, batch: Tensor) -> Tensor:
        return model(batch)[:, 0]

    data = {f"model {i + 1}": geo.FunctionObjective(loss, [one]) for i, one in enumerate(inputs)}
    done = geo.merge(modules, train_data=data, empirical=True, **SETTINGS)  # type: ignore[arg-type]
    first, second = (module.weight.detach()[0] for module in modules)
    expected = torch.stack([(first[0] + second[0]) / 2, second[1]])
    assert done.state is not None
    torch.testing.assert_close(done.state["weight"][0], expected)
    with pytest.raises(DataError, match="no labels that can be drawn from the model, as a true"):
        geo.merge(modules, train_data=data, **SETTINGS)  # type: ignore[arg-type]


def test_a_fisher_of_another_model_is_refused(small: Path, texts: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "fisher_examples": 4, "train_data": str(texts / "one.jsonl")}
    models = [str(small / "a"), str(small / "b")]
    geo.merge(models, **settings)  # type: ignore[arg-type]
    first, second = (path.parent for path in fishers_in(tmp_path / "cache"))
    for file in second.iterdir():
        shutil.copy(file, first / file.name)
    with pytest.raises(
        DataError, match=r"these statistics are of something else: model .*, expected"
    ):
        geo.merge(models, **settings)  # type: ignore[arg-type]
