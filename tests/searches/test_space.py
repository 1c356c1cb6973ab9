"""Spaces: what ranges and choices of a recipe ask for, and the recipes that values stand for."""

import pickle
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mergekit_geo.errors import GeoError, RecipeError
from mergekit_geo.recipes.inputs import inputs_of
from mergekit_geo.recipes.reading import read_document, read_recipe
from mergekit_geo.recipes.written import written
from mergekit_geo.searches.space import Space

HEAD = "merge_method: ties\nbase_model: d\n"
AB = "models: [{model: runs/prose}, {model: runs/code}]\n"
R = "{min: 0, max: 1}"

MIXED = f"""\
merge_method:
  choices:
    - linear
    - merge_method: ties
      base_model: d
      parameters:
        density: {{min: 0.1, max: 1, log: true}}
        normalize: {{choices: [true, false]}}
    - merge_method: dare_ties
      base_model: d
      parameters: {{density: {{min: 0.2, max: 0.8}}}}
models:
  - model: runs/prose
    parameters: {{weight: {R}}}
  - model: runs/code
    parameters: {{weight: {R}}}
parameters:
  lambda: {{min: 0.5, max: 2}}
"""


@dataclass
class AtRandom:
    """Asks as a trial of Optuna's does."""

    random: Random

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self.random.uniform(low, high)

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        return self.random.choice(choices)


def names(space: Space) -> list[str]:
    return [one.name for one in space.dimensions]


def test_names_say_what_a_number_is_of() -> None:
    space = Space.read(
        f"""\
merge_method: ties
base_model: d
models:
  - model: runs/prose
    parameters:
      weight: [{{filter: mlp, value: {R}}}, {{filter: attn, value: [0, {R}]}}, {R}]
      density: {R}
  - model: runs/code
    parameters: {{weight: [{R}, 0.5, {R}]}}
parameters: {{lambda: {R}}}
"""
    )
    assert names(space) == [
        "weight of prose (mlp)", "weight of prose (attn)[1]", "weight of prose (others)",
        "density of prose", "weight of code[0]", "weight of code[2]", "lambda",
    ]  # fmt: skip
    assert [one.model for one in space.dimensions] == ["runs/prose"] * 4 + ["runs/code"] * 2 + [""]
    assert [one.parameter for one in space.dimensions][-2:] == ["weight", "lambda"]
    assert space.is_continuous


def test_values_take_the_places_of_ranges() -> None:
    text = (
        HEAD
        + f"models:\n- model: a\n  parameters: {{weight: [0, {R}, 1]}}\n- model: b\n"
        + (f"  parameters: {{weight: [{{filter: mlp, value: {R}}}, 0.5]}}\nseed: 7\n")
    )
    space = Space.read(text)
    found = space.resolved({"weight of a[1]": 0.25, "weight of b (mlp)": 1e-7})
    assert found == {
        "merge_method": "ties", "base_model": "d", "seed": 7,
        "models": [
            {"model": "a", "parameters": {"weight": [0, 0.25, 1]}},
            {"model": "b", "parameters": {"weight": [{"filter": "mlp", "value": 1e-7}, 0.5]}},
        ],
    }  # fmt: skip
    assert inputs_of(read_recipe(found)).seed == 7


def test_slices_modules_and_like_names_are_told_apart() -> None:
    source = f"sources: [{{model: x/a, layer_range: [0, 2], parameters: {{weight: {R}}}}}]"
    space = Space.read(
        f"merge_method: linear\nmodules:\n  decoder:\n    slices:\n    - {source}\n"
        f"      parameters: {{normalize: {{choices: [true, false]}}}}\n"
        f"    - {source.replace('0, 2', '2, 4').replace('x/a', 'y/a')}\n"
    )
    assert names(space) == [
        "weight of x/a in layers 0-2 in decoder", "normalize in layers 0-2 in decoder",
        "weight of y/a in layers 2-4 in decoder",
    ]  # fmt: skip
    twice = Space.read(
        f"merge_method: linear\nslices:\n- {source}\n- {source}\n",
    )
    assert names(twice) == ["weight of a in layers 0-2", "weight of a in layers 0-2 #2"]


def test_what_a_method_does_not_take_is_not_asked_for_under_it() -> None:
    space = Space.read(MIXED)
    found = {one.name: dict(one.when) for one in space.dimensions}
    assert found == {
        "merge_method": {},
        "ties: density": {"merge_method": ("ties",)},
        "ties: normalize": {"merge_method": ("ties",)},
        "dare_ties: density": {"merge_method": ("dare_ties",)},
        "weight of prose": {},
        "weight of code": {},
        "lambda": {"merge_method": ("ties", "dare_ties")},
    }
    assert not space.is_continuous
    linear = space.with_defaults({"merge_method": "linear"})
    assert space.resolved(linear) == {
        "merge_method": "linear",
        "models": [
            {"model": "runs/prose", "parameters": {"weight": 0.5}},
            {"model": "runs/code", "parameters": {"weight": 0.5}},
        ],
        "parameters": {},
    }
    ties = space.resolved(space.with_defaults({"merge_method": "ties", "ties: normalize": "false"}))
    assert ties["parameters"] == {"lambda": 1.0, "density": 1.0, "normalize": False}
    assert ties["base_model"] == "d"


def test_all_that_is_suggested_is_in_the_space_and_makes_a_recipe() -> None:
    space, asker = Space.read(MIXED), AtRandom(Random(1))
    seen = set()
    for _ in range(40):
        values = space.suggest(asker)
        assert space.contains(values)
        document = read_document(space.resolved(values), strict=True)
        seen.add(inputs_of(document.recipe).name)
    assert seen == {"linear", "ties", "dare_ties"}
    assert not space.contains({**values, "other": 1.0})
    assert not space.contains({**space.defaults, "weight of prose": 1.5})
    assert not space.contains({**space.defaults, "merge_method": "slerp"})
    assert not space.contains({**space.defaults, "weight of prose": True})


def test_choices_of_a_parameter_have_ranges_of_their_own() -> None:
    choices = "{choices: [1, {min: 0.1, max: 0.5}, [0.2, 1]], default: 0.1 to 0.5}"
    space = Space.read(f"{HEAD}{AB}parameters:\n  weight: 1\n  density: {choices}\n")
    density, inner = space.dimensions
    assert density.labels == ("1", "0.1 to 0.5", "[0.2, 1]")
    assert inner.when == {"density": ("0.1 to 0.5",)}
    assert space.defaults == {"density": "0.1 to 0.5", "density: 0.1 to 0.5": pytest.approx(0.3)}
    assert space.resolved({"density": "[0.2, 1]"})["parameters"]["density"] == [0.2, 1]
    assert space.resolved({"density": "1"})["parameters"]["density"] == 1


@pytest.mark.parametrize(
    ("written", "default"),
    [
        ("weight: {min: 0, max: 2, default: 0.75}", 0.75),
        ("weight: {min: 0, max: 1}", 0.5),
        ("weight: {min: 0.75, max: 1.5}", 1.0),
        ("weight: {min: 2, max: 4}", 3.0),
        ("weight: {min: 2, max: 8, log: true}", 4.0),
        ("weight: {min: 1e-3, max: 1e-1, log: true}", 0.01),
    ],
)
def test_where_a_search_starts(written: str, default: float) -> None:
    models = f"models:\n- {{model: a, parameters: {{{written}}}}}\n- {{model: b}}\n"
    space = Space.read(HEAD + models + "parameters: {weight: 1}\n")
    assert space.defaults == {"weight of a": pytest.approx(default)}


def test_a_description_is_json_and_tells_spaces_apart() -> None:
    first, same = Space.read(MIXED).description, Space.read(MIXED).description
    assert first == same
    assert Space.read(MIXED.replace("max: 2", "max: 3")).description != first
    assert Space.read(MIXED.replace("base_model: d", "base_model: e")).description != first


MODEL = "models:\n- model: a\n  parameters:\n    "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{HEAD}{MODEL}weight: {{min: 1, max: 0}}\n", "line 6: .*weight: from 1 to 0: min is above"
         r" max .*write \{min: 0, max: 1\}"),
        (f"{HEAD}{MODEL}weight: {{min: 1, max: 1}}\n", "line 6: .*nothing between them .*write 1"),
        (f"{HEAD}{MODEL}weight: {{min: 0}}\n", "line 6: .*a range without max .*add `max: 1`"),
        (f"{HEAD}{MODEL}weight: {{min: a, max: 1}}\n", "line 6: .*min: expected a finite number"),
        (f"{HEAD}{MODEL}weight: {{min: 0, max: .inf}}\n", "max: expected a finite number"),
        (f"{HEAD}{MODEL}weight: {{min: false, max: 1}}\n", "min: expected a finite number"),
        (f"{HEAD}{MODEL}weight: {{min: 0, max: 1, log: true}}\n", "line 6: .*begin above 0, and min"
         " is 0"),
        (f"{HEAD}{MODEL}weight: {{min: 1, max: 2, log: 3}}\n", "log: expected true or false"),
        (f"{HEAD}{MODEL}weight: {{min: 0, max: 1, default: 2}}\n", "2 is not between 0 and 1"),
        (f"{HEAD}{MODEL}weight:\n      min: 0\n      max: 1\n      stpe: .1\n",
         "line 9: .*stpe: unknown key of a range .*known here: min, max, log, default"),
        (f"{HEAD}{MODEL}weight: {{min: 0, choices: [1, 2]}}\n", "min: unknown key of choices"),
        (f"{HEAD}{MODEL}weight: {{choices: []}}\n", "line 6: .*expected a list of choices, found"),
        (f"{HEAD}{MODEL}weight: {{choices: 3}}\n", "expected a list of choices, found 3"),
        (f"{HEAD}{MODEL}weight: {{choices: [0.5]}}\n", "one choice is none .*write 0.5"),
        (f"{HEAD}{MODEL}weight:\n      choices:\n      - 0.5\n      - 1\n      - 0.5\n",
         r"line 10: .*choices\[2\]: 0.5 is there twice"),
        (f"{HEAD}{MODEL}weight: {{choices: [1, 1.0]}}\n", "1.0 is there twice"),
        (f"{HEAD}{MODEL}weight: {{choices: [0.5, 1], default: 2}}\n", "2 is no choice .*0.5, 1"),
        (f"{HEAD}{MODEL}weight: 1\n    density: {{min: 0.5, max: 1.5}}\n",
         r"line 7: .*density: density must lie in \[0, 1\], found 1.5"),
        (f"{HEAD}{MODEL}weight: 1\n    densty: {R}\n", "line 7: .*unknown parameter densty"),
        (f"{HEAD}{MODEL}weight: 1\n    t: {R}\n", "line 7: .*t has no part in ties .*leave it out"),
        (f"{HEAD}{AB}parameters: {{weight: 1, normalize: {R}}}\n",
         "line 4: .*normalize is true or false, and no number .*choices: "),
        (f"{HEAD}models:\n- {{model: d, parameters: {{weight: {R}}}}}\n- model: a\n"
         f"parameters: {{weight: {R}}}\n", "line 4: .*d is the base"),
        (f"{HEAD}{AB}parameters: {{weight: {R}}}\nseed: {{min: 0, max: 9}}\n",
         "line 5: seed: a whole number is not searched .*stand under parameters"),
        (f"{HEAD}{AB}parameters: {{weight: {R}}}\nbase_model: {{choices: [d, e]}}\n",
         "line 5: base_model is there twice"),
        ("merge_method: linear\nbase_model: {choices: [d, e]}\n" + AB,
         "line 2: base_model: a model's name is not searched"),
        ("merge_method: linear\nmodels:\n- model: {choices: [a, b]}\n",
         r"line 3: models\[0\].model: a model's name is not searched"),
        (f"merge_method: linear\nslices:\n- sources:\n  - model: a\n    layer_range: [0, {R}]\n",
         r"line 5: .*layer_range\[1\]: layers are whole numbers"),
        (f"{HEAD}{MODEL}weight: [{{filter: {{choices: [mlp, attn]}}, value: {R}}}, 1]\n",
         "line 6: .*filter: part of a tensor's name is not searched"),
        (f"{HEAD}{AB}parameters: {{weight: {R}}}\ndtype: {{choices: [float32, float16]}}\n",
         "line 5: dtype: dtype is not searched"),
        (f"merge_method: {{min: 0, max: 1}}\n{AB}", "line 1: .*a method is no number"),
        (f"merge_method: {{choices: [ties, tise]}}\nbase_model: d\n{AB}parameters: {{weight: 1}}\n",
         "line 1: .*no method 'tise' .*did you mean ties"),
        (f"merge_method: {{choices: [ties, 3]}}\nbase_model: d\n{AB}",
         r"line 1: .*choices\[1\]: a choice is the name of a method, or keys"),
        (f"merge_method: {{choices: [linear, greedy]}}\n{AB}", "line 1: greedy chooses by"),
        (f"merge_method:\n  choices:\n  - linear\n  - merge_method: ties\n    base_model: d\n"
         f"    parameters:\n      weight: 1\n      density: {{min: 0, max: 7}}\n{AB}",
         r"line 8: .*density must lie in \[0, 1\], found 7"),
        (f"merge_method:\n  choices:\n  - linear\n  - merge_method: ties\n    dtype: float16\n{AB}",
         "line 5: .*dtype is one for all choices .*at the top of the recipe"),
        (f"merge_method:\n  choices:\n  - linear\n  - merge_method: ties\n    bse: d\n{AB}",
         "line 5: unknown key bse .*base_model"),
        (f"{HEAD}{AB}parameters: {{weight: 1}}\n", "line 1: no number of the recipe is a range"),
        (f"{HEAD}{AB}parameters: {{weight: {R}}}\n---\n{HEAD}{AB}", "line 6: a search takes one"),
        (f"{HEAD}models: [{{modle: a}}]\nparameters: {{weight: {R}}}\n", "line 3: .*mean model"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Space.read(text)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "search.yml"
    path.write_text(f"{HEAD}{MODEL}weight: {{min: 1, max: 0}}\n")
    with pytest.raises(RecipeError, match=r"search\.yml, line 6: models"):
        Space.read(path)


def test_a_merge_refuses_ranges_and_names_the_search() -> None:
    with pytest.raises(RecipeError, match=r"line 6: models.*weight has a range.*geo-merge search"):
        read_document(f"{HEAD}{MODEL}weight: {R}\n")
    with pytest.raises(RecipeError, match="line 1: merge_method has several choices"):
        read_document(f"merge_method: {{choices: [ties, linear]}}\n{AB}")


def test_a_space_goes_to_other_processes() -> None:
    space = Space.read(MIXED)
    there = pickle.loads(pickle.dumps(space))
    assert there.dimensions == space.dimensions
    assert there.resolved(space.defaults) == space.resolved(space.defaults)


JUNK = (
    None, 3, "x", True, [], {}, [None], [[1]], {"min": 0, "max": 1}, {"min": 0}, {"min": {}},
    {"choices": [None, 1]}, {"choices": [[1], {}]}, {"choices": {"a": 1}}, {"max": 10**400}, {1: 2},
    {"filter": [1], "value": {"min": 0, "max": 1}}, {"min": 1e-320, "max": 1e308, "log": True},
    {None: {"min": 0, "max": 1}}, {"choices": ["a", "b"], "default": {}}, {"model": {}},
)  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_whatever_stands_where_is_a_space_or_an_error_that_says_so(seed: int) -> None:
    draw = Random(seed)
    for _ in range(50):
        (text,) = written(MIXED)
        for _ in range(draw.choice([1, 2])):
            _put(text.raw, draw)
        with suppress(GeoError):
            space = Space.of(text)
            assert space.contains(space.defaults)


def _put(raw: Any, draw: Random) -> None:
    """Put something into a random place of a recipe."""
    keys: list[Any] = list(raw) if isinstance(raw, dict) else list(range(len(raw)))
    if not keys:
        return
    key = draw.choice(keys)
    if isinstance(raw[key], dict | list) and draw.random() < 0.8:
        _put(raw[key], draw)
    else:
        raw[key] = deepcopy(draw.choice(JUNK))
