"""Options, declared once: what stands on a command line, in a report and in a form is the same."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, replace
from string import ascii_letters, digits
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mergekit_geo.cli.parsing import parse
from mergekit_geo.config.data import EvalData
from mergekit_geo.config.flags import flags, made, settings_of
from mergekit_geo.config.option import Declared, check, declared, option
from mergekit_geo.config.output import OutputConfig
from mergekit_geo.config.schema import schema_of
from mergekit_geo.errors import ArgumentError
from mergekit_geo.specs.measures import BarrierSpec
from mergekit_geo.specs.merges import SoupSpec
from mergekit_geo.specs.panels import options_of
from mergekit_geo.specs.spec import Spec, command_line
from mergekit_geo.specs.table import COMMANDS, spec_of

SPECS = [spec_of(name) for name in COMMANDS]
NUMBERS = st.floats(0.001, 0.999)
TEXTS = st.tuples(
    st.sampled_from(ascii_letters + "./"), st.text(ascii_letters + digits + " ,./=-", max_size=9)
).map("".join)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXTS, "path": TEXTS, "data": TEXTS, "flag": st.booleans(), "off": st.booleans(),
    "whole": st.integers(2, 1000), "number": NUMBERS,
    "texts": st.lists(TEXTS, min_size=1, max_size=3),
    "numbers": st.lists(NUMBERS, min_size=1, max_size=4).map(tuple),
    "pair": st.tuples(st.floats(-5, 0), st.floats(1, 5)),
    "sources": TEXTS | st.lists(TEXTS, min_size=2, max_size=3).map(
        lambda texts: tuple(f"s{i}={text}" for i, text in enumerate(texts))
    ),
    "by_model": TEXTS | st.lists(TEXTS, min_size=1, max_size=3).map(
        lambda texts: tuple(f"m{i}={text}" for i, text in enumerate(texts))
    ),
}  # fmt: skip
EXCLUSIVE = {
    "max_shard_size", "private", "push_to", "along", "method", "basin", "pick", "sweep", "epochs",
    "steps", "sharpness", "keep", "require", "fail_above", "sam_variant",
}  # fmt: skip
"""Options with a form, or that exclude each other: tests of their own have them."""


def values_of(spec: type[Spec]) -> st.SearchStrategy[dict[str, Any]]:
    """Values of some options of a command, and of all that it needs."""

    def value(one: Declared) -> st.SearchStrategy[Any]:
        return st.sampled_from(one.option.choices) if one.option.choices else KINDS[one.kind]

    found = [
        one for one in declared(spec)
        if one.on_command_line and not one.option.shared and one.name not in EXCLUSIVE
    ]  # fmt: skip
    needed = {one.name: value(one) for one in found if _is_needed(one)}
    others = {one.name: value(one) for one in found if not _is_needed(one)}
    return st.fixed_dictionaries(needed, optional=others)


def _is_needed(one: Declared) -> bool:
    """Whether a command line has to give it, if only where nothing stands in its place."""
    return one.default is MISSING or one.option.required or one.name in {"out", "models"}


@pytest.mark.parametrize("spec", SPECS, ids=COMMANDS)
@settings(max_examples=15, deadline=None, phases=[Phase.generate])
@given(data=st.data())
def test_what_is_parsed_of_its_flags_is_the_same(spec: type[Spec], data: st.DataObject) -> None:
    asked = made(spec, data.draw(values_of(spec)))
    assert parse(spec, flags(asked)) == asked
    assert command_line(asked).startswith(f"geo-merge {spec.command}")


@pytest.mark.parametrize("spec", SPECS, ids=COMMANDS)
def test_an_option_is_declared_once(spec: type[Spec]) -> None:
    names = [one.name for one in options_of(spec)]
    assert len(set(names)) == len(names)
    assert all(one.option.text.endswith(".") for one in options_of(spec))


@pytest.mark.parametrize("spec", SPECS, ids=COMMANDS)
def test_a_schema_asks_what_the_command_line_does(spec: type[Spec]) -> None:
    schema = schema_of(spec)
    own = {one.name for one in options_of(spec)} - {"json", "quiet", "debug", "num_processes"}
    assert set(schema["properties"]) == own
    assert set(schema["required"]) <= own


def test_given_options_are_known() -> None:
    asked = parse(SoupSpec, ["a", "b", "-o", "out", "--sharpness=quick"])
    assert asked.given == {"models", "out", "sharpness"}


def test_training_data_is_read_as_data_is_that_was_left_out() -> None:
    words = [
        "a",
        "b",
        "-o",
        "out",
        "--text-column=body",
        "--max-examples=9",
        "--train-data=all.txt",
    ]
    asked, without = (parse(SoupSpec, [*words, *more]) for more in ((), ("--no-eval",)))
    assert without.data is None
    assert without.train_data == asked.train_data == asked.data.training("all.txt")
    assert asked.train_data.text_column == "body"


def test_data_may_be_the_name_of_its_source() -> None:
    named = SoupSpec(["a", "b"], "out", data="held-out.jsonl", train_data="all.txt")
    data = EvalData("held-out.jsonl")
    assert named == SoupSpec(["a", "b"], "out", data=data, train_data=data.training("all.txt"))
    assert flags(named)[-2:] == ["--data=held-out.jsonl", "--train-data=all.txt"]


def test_an_option_that_is_taken_over_differs_where_it_says_so() -> None:
    first = next(one for one in declared(OutputConfig) if one.name == "overwrite").option
    taken = next(one for one in declared(BarrierSpec) if one.name == "overwrite").option
    assert first.recorded
    assert taken == replace(first, recorded=False)


def test_settings_in_the_report_are_the_options() -> None:
    found = settings_of(parse(SoupSpec, ["a", "-o", "out", "--method=greedy", "--max-examples=9"]))
    assert found["method"] == "greedy"
    assert found["data"]["max_examples"] == 9
    assert {"models", "out"}.isdisjoint(found)


@dataclass(frozen=True)
class Toy:
    count: int = option(1, "How many.", least=1)
    colour: str = option("red", "Which.", choices=("red", "blue"))
    share: float = option(0.5, "How much.")


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"count": 0}, "count must be at least 1, found 0"),
        ({"colour": "green"}, "colour 'green': expected one of red, blue"),
        ({"share": float("nan")}, "share must be a finite number, found nan"),
    ],
)
def test_values_that_an_option_does_not_admit(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        check(replace(Toy(), **wrong))
