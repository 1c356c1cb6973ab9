"""Honest data: what is held out has never been seen, and bad files say what is wrong."""

import re
from pathlib import Path

import pytest

from mergekit_geo.errors import DataError
from mergekit_geo.objectives.settings import BUILTIN, EvalData
from mergekit_geo.objectives.text import SHARED_RUN, builtin_documents, digest, load_documents


def flat(text: str) -> str:
    return " ".join(text.split())


def test_no_run_of_held_out_text_stands_in_the_training_text() -> None:
    train = "\n".join(flat(document.text) for document in builtin_documents("train"))
    for document in builtin_documents("held-out"):
        for paragraph in re.split(r"\n\s*\n", document.text):
            text = flat(paragraph)
            runs = (text[i : i + SHARED_RUN] for i in range(0, len(text) - SHARED_RUN + 1))
            assert not any(run in train for run in runs), document.name


def test_split_is_by_topic_and_keeps_most_for_training() -> None:
    train, held_out = builtin_documents("train"), builtin_documents("held-out")
    assert {d.name for d in train}.isdisjoint(d.name for d in held_out)
    assert len(held_out) >= 10
    assert sum(len(d.text) for d in train) > 200_000


def test_no_paragraph_stands_twice() -> None:
    documents = builtin_documents("train") + builtin_documents("held-out")
    paragraphs = [flat(p) for d in documents for p in re.split(r"\n\s*\n", d.text)]
    assert len(paragraphs) == len(set(paragraphs))


def test_builtin_data_is_the_held_out_half() -> None:
    assert load_documents(EvalData(BUILTIN)) == builtin_documents("held-out")
    assert len(digest(builtin_documents("held-out"))) == 64


def test_blank_lines_separate_documents(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("one\nstill one\n\n\ntwo\n")
    assert [d.text for d in load_documents(EvalData(str(path)))] == ["one\nstill one", "two\n"]


def test_rows_are_documents(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"body": "one"}\n\n{"body": "two"}\n')
    assert [d.text for d in load_documents(EvalData(str(path), "body"))] == ["one", "two"]
    with pytest.raises(DataError, match=r"line 1 has no text in column 'text'; .* are body"):
        load_documents(EvalData(str(path)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", b" \n \n", "no text in it"),
        ("x.txt", b"\xff\xfe\x00", "not UTF-8 text"),
        ("x.jsonl", b"{oops", "line 1 is not JSON"),
        ("x.csv", b"a,b", r"expected one of \.txt, \.jsonl"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_documents(EvalData(str(tmp_path / name)))


def test_missing_file() -> None:
    with pytest.raises(DataError, match=r"nowhere\.txt: no such file"):
        load_documents(EvalData("nowhere.txt"))


def test_rows_may_hold_any_character(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    text = "one\u2028still one\u0085"
    path.write_text(f'\ufeff{{"text": "{text}"}}\n')
    assert [d.text for d in load_documents(EvalData(str(path)))] == [text]
