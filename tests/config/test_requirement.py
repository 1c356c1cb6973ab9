"""What an output must hold: which words say it, and which sets there are."""

from __future__ import annotations

import pytest

from mergekit_geo.cli.parsing import parse
from mergekit_geo.config.flags import flags
from mergekit_geo.config.output import OutputConfig
from mergekit_geo.config.requirement import Requirement
from mergekit_geo.errors import ArgumentError
from mergekit_geo.specs.merges import RunSpec, SoupSpec
from mergekit_geo.specs.training import FinetuneSpec

SETS = {"code": "c.jsonl", "chat": "d.jsonl"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("not-worse", Requirement()),
        ("not-worse@loss", Requirement()),
        ("not-worse@score", Requirement(by="score")),
        ("not-worse:code", Requirement(("code",))),
        ("not-worse:code,chat@score", Requirement(("code", "chat"), "score")),
    ],
)
def test_words_that_say_a_requirement(text: str, expected: Requirement) -> None:
    assert OutputConfig(require=text).requirement == expected


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("better", r"require 'better': expected not-worse\[:SET,...\]\[@loss\|@score\]"),
        ("", "require '': expected not-worse"),
        ("not-worsened", "expected not-worse"),
        ("not-worse:", "'' is no name of a set"),
        ("not-worse:code,", "'' is no name of a set"),
        ("not-worse:my set", "'my set' is no name of a set"),
        ("not-worse@accuracy", "'accuracy' is neither loss nor score"),
        ("not-worse:code@", "'' is neither loss nor score"),
        ("not-worse@score:code", "'score:code' is neither loss nor score"),
    ],
)
def test_words_that_say_none(text: str, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        OutputConfig(require=text)


def test_its_flag_says_the_same_again() -> None:
    wanted = OutputConfig(require="not-worse:code@score")
    asked = SoupSpec(["a", "b"], "out", data=SETS, output=wanted)
    assert parse(SoupSpec, flags(asked)).output == wanted


def test_an_unknown_set_is_refused_where_it_is_said() -> None:
    wanted = OutputConfig(require="not-worse:cod")
    match = r"no set 'cod' to require \(did you mean code\? the sets are code, chat\)"
    with pytest.raises(ArgumentError, match=match):
        SoupSpec(["a", "b"], "out", data=SETS, output=wanted)
    with pytest.raises(ArgumentError, match=match):
        FinetuneSpec("a", "out", train_data="t.txt", data=SETS, output=wanted)
    with pytest.raises(ArgumentError, match=r"'cod' to require \(the sets are held\)"):
        SoupSpec(["a", "b"], "out", data="held.jsonl", output=wanted)
    with pytest.raises(ArgumentError, match="'cod' to require: nothing is measured"):
        SoupSpec(["a", "b"], "out", data=None, output=wanted)


def test_sets_of_a_recipe_are_not_known_yet() -> None:
    wanted = OutputConfig(require="not-worse:cod")
    assert RunSpec("r.yml", "out", output=wanted).output == wanted
    with pytest.raises(ArgumentError, match="no set 'cod' to require"):
        RunSpec("r.yml", "out", data=SETS, output=wanted)
