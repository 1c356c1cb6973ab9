"""The table of merge methods: what a call can say, and what a new method takes."""

import math
import subprocess
import sys
from typing import Any

import pytest
import torch

from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.method import BaseUse, Method
from mergekit_geo.merging.method_help import listing, merge_command, options
from mergekit_geo.merging.methods import METHODS, anchors_of, rule_of
from mergekit_geo.merging.parameter import Parameter
from mergekit_geo.recipes.plan import prepare
from scripts.docs.methods import method_table

CALLED = {name: method for name, method in METHODS.items() if not method.by_loss}
STATES = [
    {"w": torch.randn(6, 8, generator=torch.Generator().manual_seed(seed))} for seed in range(3)
]
NAMES = ("base", "a", "b")


def count_for(method: Method) -> int:
    """The smallest number of models that two members and a base allow."""
    return min(method.most or 2, 2) + (method.base in {BaseUse.REQUIRED, BaseUse.END})


def base_for(method: Method) -> int | None:
    return 0 if method.base in {BaseUse.REQUIRED, BaseUse.END} else None


def called(method: str | Method, **parameters: Any) -> Rule:
    found = method if isinstance(method, Method) else METHODS[method]
    return rule_of(method, count_for(found), base_for(found), **parameters)


COUNTS = {"fisher_examples", "gram_examples", "steps"}


@pytest.mark.parametrize("name", CALLED)
def test_a_call_and_a_recipe_make_the_same_rule(name: str) -> None:
    """With every parameter given, by its keyword here and by its key there."""
    method, given, shared = METHODS[name], {}, {}
    members = list(NAMES)[: count_for(method)]
    has_base = base_for(method) is not None
    each: dict[str, dict[str, float]] = {member: {} for member in members[has_base:]}
    for at, parameter in enumerate(method.parameters):
        value = 8.0 if parameter.name in COUNTS else 0.5 - 0.1 * at
        if parameter.is_switch:
            given[parameter.keyword] = shared[parameter.name] = not parameter.default
        elif parameter.each:
            values = [value + 0.02 * i for i in range(len(each))]
            given[parameter.keyword] = values
            for own, one in zip(each.values(), values, strict=True):
                own[parameter.name] = one
        else:
            given[parameter.keyword] = shared[parameter.name] = value
    models = [{"model": member, "parameters": each.get(member, {})} for member in members]
    recipe = {"merge_method": name, "models": models, "parameters": shared}
    if has_base:
        recipe["base_model"] = "base"
    resolved = prepare(recipe, dict(zip(NAMES, STATES, strict=True))).resolved
    assert resolved.rule == called(name, **given)


BOUNDED = [
    (name, each) for name, method in CALLED.items() for each in method.parameters if each.bounds
]


@pytest.mark.parametrize(("name", "parameter"), BOUNDED, ids=lambda value: str(value)[:30])
def test_bounds_are_those_that_the_table_declares(name: str, parameter: Parameter) -> None:
    bounds = parameter.bounds
    assert bounds is not None
    for end, beyond, is_open in (
        (bounds.low, -math.inf, bounds.open_low),
        (bounds.high, math.inf, bounds.open_high),
    ):
        if math.isinf(end):
            continue
        for value in [math.nextafter(end, beyond), *([end] if is_open else [])]:
            with pytest.raises(ArgumentError, match=f"{parameter.name} must lie in"):
                called(name, **{parameter.keyword: value})
        if not is_open:
            called(name, **{parameter.keyword: end})


def test_an_option_means_the_same_for_every_method() -> None:
    for method in METHODS.values():
        for each in method.parameters:
            one = options()[each.keyword]
            assert (each.name, each.text, each.bounds, each.each, each.is_switch) == (
                one.name, one.text, one.bounds, one.each, one.is_switch,
            )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "count", "base", "given", "said"),
    [
        ("tie", 3, 0, {}, r"no method 'tie' \(did you mean ties\? methods: linear, "),
        ("moe", 3, 0, {}, "builds a mixture of experts"),
        ("greedy", 3, None, {}, "greedy chooses the point by loss .*geo-merge soup --method gree"),
        ("ties", 3, None, {}, r"ties needs a base, .*\(--base names the model"),
        ("linear", 3, 0, {}, r"linear takes no base \(leave --base out\)"),
        ("ties", 3, 3, {}, "the base must be one of 3 models, found number 3"),
        ("ties", 1, 0, {}, "ties needs 1 or more models beside the base, found 0"),
        ("slerp", 3, None, {}, "slerp takes 1 model beside the base, found 2 .*karcher"),
        ("nuslerp", 2, 0, {}, "nuslerp needs 2 or more models, found 1"),
        ("ties", 3, 0, {"desnity": 0.5}, r"takes no 'desnity' \(did you mean density\? parameters"),
        ("ties", 3, 0, {"gamma": 0.5}, "ties takes no 'gamma' .*weights, density, lambda_"),
        ("ties", 3, 0, {"density": [0.5]}, "1 values of density for 2 models .*base left out"),
        ("ties", 3, 0, {"density": [0.5, 2]}, r"density must lie in \[0, 1\], found 2"),
        ("ties", 3, 0, {"density": math.nan}, "density must be a finite number, found nan"),
        ("ties", 3, 0, {"density": [0.5, "x"]}, "density must be a finite number, found 'x'"),
        ("ties", 3, 0, {"density": True}, "density must be a number, found True"),
        ("ties", 3, 0, {"normalize": 1}, "normalize must be true or false, found 1"),
        ("ties", 3, 0, {"lambda_": [1, 2]}, r"lambda_ is one number for the whole merge.*--lambda"),
        ("slerp", 2, None, {"t": "x"}, "t is one number for the whole merge, found 'x'"),
        ("della", 3, 0, {"density": 0.9}, "chances from density - epsilon"),
    ],
)
def test_a_call_that_is_refused(
    method: str, count: int, base: int | None, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ArgumentError, match=said):
        rule_of(method, count, base, **given)


def test_what_is_not_given_is_the_default() -> None:
    assert rule_of("ties", 3, 0) == rule_of("ties", 3, 0, weights=1, density=[1, 1], lambda_=None)
    assert rule_of("slerp", 2).weights == (0.5, 0.5)
    assert anchors_of(2, None) == (0, 1)


def test_an_option_of_the_shell() -> None:
    density = options()["density"]
    assert (density.flag, density.parse("1e-1")) == ("--density", 0.1)
    with pytest.raises(ArgumentError, match=r"--density must be a number or several, found '.5;.2"):
        density.parse(".5;.2")


def test_every_method_is_documented() -> None:
    assert all(formula for _, formula, _, _ in listing())
    assert all(f"| `{name}` |" in method_table() for name in METHODS)
    assert all(merge_command(name).count(f"--method {name}") == 1 for name in CALLED)
    assert merge_command("tie") == ""


def test_the_table_loads_no_torch() -> None:
    code = "import mergekit_geo.merging.method_help, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
