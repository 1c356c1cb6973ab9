"""Several evaluation sets: by flags, by a file, by a mapping; as one source they are the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mergekit_geo.cli.parsing import parse
from mergekit_geo.config.data import EvalData, sets_of, source_of
from mergekit_geo.config.flags import flags, settings_of
from mergekit_geo.config.sets import EvalSets
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.evaluation.objective import FunctionObjective
from mergekit_geo.specs.merges import SoupSpec
from mergekit_geo.specs.spec import command_line, repeated

SEVERAL = ["--data=code=c.jsonl", "--data=runs/chat.parquet", "--seq-len=64"]


def soup(*words: str) -> SoupSpec:
    return parse(SoupSpec, ["a", "b", "-o", "out", *words])


def test_sets_share_the_options_of_the_command_line() -> None:
    code, chat = sets_of(soup(*SEVERAL).data)
    assert (code.name, code.data) == ("code", EvalData("c.jsonl", seq_len=64))
    assert (chat.name, chat.data) == ("chat", EvalData("runs/chat.parquet", seq_len=64))


def test_the_command_line_of_sets_is_the_same_again() -> None:
    asked = soup(*SEVERAL)
    assert flags(asked)[4:] == SEVERAL
    assert repeated(asked) == command_line(asked)


def test_as_one_source_several_sets_are_the_first() -> None:
    source = source_of(soup(*SEVERAL).data)
    assert source.as_settings == EvalData("c.jsonl", seq_len=64)
    assert source.is_named
    assert not source.is_default


def test_a_name_of_one_set() -> None:
    (only,) = sets_of(soup("--data=code=c.jsonl").data)
    assert (only.name, only.data.as_settings) == ("code", EvalData("c.jsonl"))


def test_a_path_that_exists_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x=y.txt").write_text("text")
    assert soup("--data=x=y.txt").data == EvalData("x=y.txt")
    assert sets_of(soup("--data=x=z.txt").data)[0].name == "x"


def test_settings_in_the_report_tell_every_set() -> None:
    found = settings_of(soup(*SEVERAL))["data"]["sets"]
    assert [(one["name"], one["source"], one["weight"]) for one in found] == [
        ("code", "c.jsonl", 1.0), ("chat", "runs/chat.parquet", 1.0)
    ]  # fmt: skip


def test_a_mapping_is_said_by_flags_where_nothing_else_differs() -> None:
    alike = SoupSpec(["a"], "out", data={"code": "c.jsonl", "chat": EvalData("d.jsonl")})
    assert flags(alike)[3:] == ["--data=code=c.jsonl", "--data=chat=d.jsonl"]
    unlike = SoupSpec(["a"], "out", data={"code": "c.jsonl", "chat": EvalData("d", seq_len=9)})
    assert repeated(unlike) == ""
    function = FunctionObjective(lambda model, batch: batch, [])
    assert repeated(SoupSpec(["a"], "out", data={"own": function})) == ""


FILE = """
sets:
  - {name: code, source: c.jsonl, text_column: body, max_examples: 9, weight: 2}
  - {data: runs/chat.parquet, split: test, config: en, task: causal-lm}
"""


def test_a_file_lists_sets_with_options_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "sets.yml"
    path.write_text(FILE)
    asked = soup(f"--data={path}", "--seq-len=64")
    code, chat = sets_of(asked.data)
    assert code.data == EvalData(
        "c.jsonl", text_column="body", max_examples=9, seq_len=64, weight=2.0
    )
    assert (chat.name, chat.weight) == ("chat", 1.0)
    assert chat.data == EvalData(
        "runs/chat.parquet", split="test", config="en", task="causal-lm", seq_len=64
    )
    assert flags(asked)[4:] == [f"--data={path}", "--seq-len=64"]
    path.write_text("[a.jsonl, {source: b.jsonl}]")
    assert [one.name for one in sets_of(soup(f"--data={path}").data)] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("sets: 3", "expected a list of sets"),
        ("[]", "expected a list of sets"),
        ("", "expected a list of sets"),
        ("- {name: a}", r"set 1: source: Field required"),
        ("- {source: a, max_example: 3}", r"set 1: max_example: .*did you mean max_examples\?"),
        ("- {source: a, max_examples: 0}", r"set 1: max_examples: .*greater than or equal to 1"),
        ("- {source: a, max_examples: many}", r"set 1: max_examples: .*valid integer"),
        ("- {source: a, seq_len: 1}\n", r"set 1: .*greater than or equal to 2"),
    ],
)
def test_a_file_that_lists_no_sets(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "sets.yml").write_text(text)
    with pytest.raises(DataError, match=match):
        soup(f"--data={tmp_path / 'sets.yml'}")


def test_a_file_of_sets_that_is_not_there() -> None:
    with pytest.raises(DataError, match=r"nowhere\.yml: cannot be read"):
        soup("--data=nowhere.yml")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (EvalData(["x=a.jsonl", "x=b.jsonl"]), "two sets are called 'x'.*--data NAME=SOURCE"),
        (EvalData(["one/a.jsonl", "two/a.jsonl"]), "two sets are called 'a'"),
        ({"a": EvalData("a", weight=0), "b": EvalData("b", weight=0)}, "weights .* sum to zero"),
        ({"a": EvalData("a", weight=-1)}, r"weights of sets are numbers from 0 on, found \[-1"),
        ({}, "no evaluation sets"),
        ({"a b": EvalData("a")}, "a set is called 'a b': expected letters"),
    ],
)
def test_sets_that_cannot_be_meant(data: Any, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        source_of(data)


def test_sets_with_other_settings() -> None:
    sets = source_of({"a": EvalData("a"), "b": EvalData("b", seed=3)}).replaced(max_examples=5)
    assert isinstance(sets, EvalSets)
    assert [one.data.as_settings.max_examples for one in sets.sets if one.data.as_settings] == [
        5,
        5,
    ]
