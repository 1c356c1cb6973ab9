"""Honest data: what is held out has never been seen."""

import ast
import re
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest

from mergekit_geo.config.data import BUILTIN, BUILTINS, PYTHON_SOURCE, EvalData
from mergekit_geo.data import python_source
from mergekit_geo.data.held_out import SHARED_RUN, Pieces, distinct, held_out_half
from mergekit_geo.data.load import load_rows
from mergekit_geo.data.text import COLLECTIONS, Document, builtin_documents
from mergekit_geo.errors import DataError

BLANK = {BUILTIN: r"\n\s*\n", PYTHON_SOURCE: r"\n\n(?=    (?:@|def |async def |class ))"}
"""What stands between pieces."""

both = pytest.mark.parametrize("source", BUILTINS)


def flat(text: str) -> str:
    return " ".join(text.split())


def pieces(documents: list[Document], source: str) -> list[str]:
    return [flat(piece) for found in documents for piece in re.split(BLANK[source], found.text)]


@both
def test_no_run_of_held_out_text_stands_in_the_training_text(source: str) -> None:
    held_out = pieces(builtin_documents("held-out", source), source)
    runs = {text[i : i + SHARED_RUN] for text in held_out for i in range(len(text) - 47)}
    for document in builtin_documents("train", source):
        text = flat(document.text)
        shared = [text[i : i + SHARED_RUN] for i in range(len(text) - 47)]
        assert runs.isdisjoint(shared), document.name


@both
def test_split_is_by_group_and_keeps_most_for_training(source: str) -> None:
    train, held_out = (builtin_documents(split, source) for split in ("train", "held-out"))
    groups = [{d.name.partition(".")[0] for d in half} for half in (train, held_out)]
    assert groups[0].isdisjoint(groups[1])
    assert len(groups[1]) >= 10
    assert sum(len(d.text) for d in train) > 200_000


@both
def test_no_piece_stands_twice(source: str) -> None:
    found = [flat(piece) for one in distinct(COLLECTIONS[source]()) for piece in one.pieces]
    assert len(found) == len(set(found))


def test_a_held_out_piece_is_dropped_by_a_run_of_48_characters() -> None:
    held_out = next(name for name in "abcdefghij" if Pieces(name, name, []).is_held_out)
    train = next(name for name in "abcdefghij" if not Pieces(name, name, []).is_held_out)
    own, run = "own words of it " * 20, "0123456789 abcdefghij " * 3
    for length, kept in ((47, [own, run[:47]]), (48, [own])):
        documents = [
            Pieces("one", train, [f"x {run[:length]}\n x" * 9]),
            Pieces("two", held_out, [own, run[:length]]),
        ]
        (found,) = held_out_half(documents)
        assert found.pieces == kept


def test_source_is_functions_and_classes_of_the_standard_library() -> None:
    folder = Path(sysconfig.get_path("stdlib"))
    for document in builtin_documents("train", PYTHON_SOURCE)[::40]:
        *module, name = document.name.split(".")
        assert module[0] in sys.stdlib_module_names
        assert not {"test", "tests", "idlelib", "encodings"} & set(module)
        (node,) = ast.parse(textwrap.dedent(document.text)).body
        assert isinstance(node, python_source.Definition)
        assert node.name == name
        text = folder.joinpath(*module).with_suffix(".py").read_text("utf-8")
        assert flat(document.text.split("\n\n    def ")[0]) in flat(text)


def test_definitions_of_a_file(tmp_path: Path) -> None:
    text = '''
        TABLE = {1: 2}
        @cache
        def one():
            """Says

        def nothing():
            """
        class Two(Base):
            size = 1

            def a(self): ...
            # of b
            @property
            def b(self): ...
    '''
    (tmp_path / "x.py").write_text(textwrap.dedent(text))
    one, two = python_source._definitions(tmp_path / "x.py")
    assert one == ("one", ['@cache\ndef one():\n    """Says\n\ndef nothing():\n    """'])
    assert two[1] == [
        "class Two(Base):\n    size = 1",
        "    def a(self): ...\n    # of b",
        "    @property\n    def b(self): ...",
    ]


def test_a_long_file_is_parsed_in_part_with_the_same_definitions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = Path(python_source.__file__)
    whole = list(python_source._definitions(path))
    monkeypatch.setattr(python_source, "READ", 3_000)
    part = list(python_source._definitions(path))
    assert 0 < len(part) < len(whole)
    assert part == whole[: len(part)]


def test_a_python_without_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(DataError, match="python-source: this Python has no source of its standard"):
        python_source.python_source()


def test_both_halves_are_data() -> None:
    held_out = load_rows(EvalData(PYTHON_SOURCE))
    train = load_rows(EvalData(PYTHON_SOURCE, split="train"))
    assert set(held_out.names).isdisjoint(train.names)
    assert held_out.source == PYTHON_SOURCE
    assert held_out.notes == train.notes == []


def test_an_unknown_built_in_text() -> None:
    with pytest.raises(DataError, match=r"there are builtin:python-docs and builtin:python-source"):
        load_rows(EvalData("builtin:wikipedia"))
    with pytest.raises(DataError, match="no such built-in text") as caught:
        load_rows(EvalData("builtin:python-sources"))
    assert caught.value.remedy.startswith("did you mean builtin:python-source?")
