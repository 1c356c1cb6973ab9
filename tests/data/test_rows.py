"""Rows of every kind of source are the same rows, and bad sources say what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from mergekit_geo.config.data import EvalData
from mergekit_geo.data.load import load_rows
from mergekit_geo.data.rows import Rows
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.objective import document_keys

CELLS = [{"text": "one", "label": 0}, {"text": "two\nlines", "label": 1}]


def read(path: Path, **options: Any) -> Rows:
    return load_rows(EvalData(str(path), **options))


def cells(rows: Rows) -> list[dict[str, Any]]:
    return [dict(row) for row in rows.cells]


def table(names: Sequence[str] = ("one", "two")) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": list(names), "label": list(range(len(names)))})


@pytest.fixture(autouse=True)
def _quiet() -> None:
    datasets.disable_progress_bars()


def test_builtin_text_is_a_row_a_topic() -> None:
    rows, documents = load_rows(EvalData()), builtin_documents("held-out")
    assert cells(rows) == [{"text": document.text} for document in documents]
    assert rows.names == [document.name for document in documents]
    assert rows.columns == ["text"]


def test_every_format_of_file_gives_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("\n\n".join(map(json.dumps, CELLS)))
    (tmp_path / "x.json").write_text(json.dumps(CELLS))
    (tmp_path / "wrapped.json").write_text(json.dumps({"version": 1, "data": CELLS}))
    parquet.write_table(pa.Table.from_pylist(CELLS), tmp_path / "x.parquet")
    for name in ("x.jsonl", "x.json", "wrapped.json", "x.parquet"):
        assert cells(read(tmp_path / name)) == CELLS, name
    assert read(tmp_path / "x.jsonl").names == ["x.jsonl:1", "x.jsonl:3"]
    assert read(tmp_path / "x.parquet").names == ["x.parquet:1", "x.parquet:2"]


def test_blank_lines_separate_the_documents_of_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "x.TXT").write_text("one\nstill one\n\n \ntwo\n")
    rows = read(tmp_path / "x.TXT")
    assert cells(rows) == [{"text": "one\nstill one"}, {"text": "two\n"}]
    assert rows.names == ["x.TXT:1", "x.TXT:2"]


def test_json_may_be_an_object_a_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"text": "one"}\n{"text": "two"}\n')
    rows = read(tmp_path / "x.json")
    assert cells(rows) == [{"text": "one"}, {"text": "two"}]
    assert rows.names == ["x.json:1", "x.json:2"]


def test_csv_has_quotes_commas_line_breaks_and_long_cells(tmp_path: Path) -> None:
    long = "x" * 200_000
    (tmp_path / "x.csv").write_text(f'\ufefftext,label\n"a, ""b""\nc",1\n{long},0\n', "utf-8")
    rows = read(tmp_path / "x.csv")
    assert cells(rows) == [{"text": 'a, "b"\nc', "label": "1"}, {"text": long, "label": "0"}]


def test_rows_of_json_may_hold_any_character(tmp_path: Path) -> None:
    text = "one\u2028still one\u0085"
    (tmp_path / "x.jsonl").write_text(f'\ufeff{{"text": "{text}"}}\n', "utf-8")
    assert cells(read(tmp_path / "x.jsonl")) == [{"text": text}]


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv"])
def test_a_row_without_the_column_is_named(tmp_path: Path, name: str) -> None:
    content = {"x.jsonl": '{"text": "a", "label": 1}\n{"text": "b"}', "x.csv": "text,label\na,1\nb"}
    (tmp_path / name).write_text(content[name])
    row = read(tmp_path / name).cells[1]
    assert row["text"] == "b"
    with pytest.raises(DataError, match=rf"{name}:[23] has no column 'label'; its .* are text"):
        row["label"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", b" \n \n", "x.txt: no documents in it"),
        ("x.jsonl", b"\n", "no documents in it"),
        ("x.json", b"[]", "no documents in it"),
        ("x.csv", b"text,label\n", "no documents in it"),
        ("x.txt", b"\xff\xfe\x00", "not UTF-8 text"),
        ("x.jsonl", b'{"text": "\xff"}', "not UTF-8 text"),
        ("x.jsonl", b'{"text": "a"}\n\n{oops', "line 3 is not JSON"),
        ("x.jsonl", b"[1]", "line 1 is not an object: found a list"),
        ("x.json", b"{oops", "the file is not JSON"),
        ("x.json", b'{"rows": []}', "expected a list of objects .* found an object with rows"),
        ("x.json", b'[{"text": "a"}, 3]', "row 2 is not an object: found a int"),
        ("x.csv", b"text,label\na,1\nb,2,3\n", "line 3 has more cells than the header"),
        ("x.csv", b'text\n"a', "not CSV after line 1: unexpected end of data"),
        ("x.csv", b"text,id,text\na,1,b\n", "two columns are called .text."),
        ("x.parquet", b"text", "the file is not parquet"),
        ("x.xlsx", b"a", r"expected one of \.txt, \.jsonl, .* found \.xlsx"),
        ("x", b"a", "found no suffix"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize(
    "source", ["nowhere.txt", "no/where.jsonl", "nowhere", "./no/where", "a b"]
)
def test_missing_files(source: str) -> None:
    with pytest.raises(DataError, match=r"no such file .*org/name"):
        load_rows(EvalData(source))


def test_a_split_of_a_file_is_said_to_be_of_no_use(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("one")
    assert read(tmp_path / "x.txt").notes == []
    assert "not used here" in read(tmp_path / "x.txt", split="test").notes[0]


def test_a_saved_dataset_has_its_rows(tmp_path: Path) -> None:
    table().save_to_disk(str(tmp_path / "x"))
    rows = read(tmp_path / "x")
    assert cells(rows) == [{"text": "one", "label": 0}, {"text": "two", "label": 1}]
    assert rows.names == ["all:1", "all:2"]
    assert rows.columns == ["text", "label"]
    assert rows.notes == []
    with pytest.raises(DataError, match="all:2 has no column 'body'"):
        rows.cells[1]["body"]


def test_a_saved_dataset_is_read_whatever_it_was_set_to_give(tmp_path: Path) -> None:
    names = ["yes", "no"]
    features = datasets.Features(
        text=datasets.Value("string"),
        tags=datasets.Sequence(datasets.ClassLabel(names=names)),
        sound={"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
    )
    sound = {"bytes": b"x", "path": None}
    found = datasets.Dataset.from_dict(
        {"text": ["one"], "tags": [[0, 1]], "sound": [sound]}, features=features
    )
    found.set_format("numpy", columns=["tags"])
    found.save_to_disk(str(tmp_path / "x"))
    info = tmp_path / "x" / "dataset_info.json"
    stated = json.loads(info.read_text())
    stated["features"]["sound"] = {"_type": "Audio"}
    info.write_text(json.dumps(stated))
    (row,) = read(tmp_path / "x").cells
    assert row == {"text": "one", "tags": [0, 1], "sound": sound}
    assert [tag.names for tag in row["tags"]] == [("yes", "no")] * 2


def test_splits_of_a_saved_dataset_are_chosen_asked_for_and_listed(tmp_path: Path) -> None:
    splits = {"train": table(["a"]), "test": table(["b"]), "odd": table(["c"])}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "x"))
    rows = read(tmp_path / "x")
    assert rows.cells[0]["text"] == "b"
    assert rows.names == ["test:1"]
    assert rows.notes == ["split 'test' is taken, of train, test, odd"]
    assert read(tmp_path / "x", split="odd").cells[0]["text"] == "c"
    with pytest.raises(DataError, match=r"no split 'dev'; its splits are train, test, odd"):
        read(tmp_path / "x", split="dev")


def test_a_dataset_with_unusual_splits_asks_for_one(tmp_path: Path) -> None:
    splits = {"a": table(["a"]), "b": table(["b"])}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "two"))
    datasets.DatasetDict(a=splits["a"]).save_to_disk(str(tmp_path / "one"))
    assert read(tmp_path / "one").names == ["a:1"]
    with pytest.raises(DataError, match=r"several splits: a, b .*--split"):
        read(tmp_path / "two")


def test_an_empty_dataset_and_a_folder_of_something_else(tmp_path: Path) -> None:
    table([]).save_to_disk(str(tmp_path / "x"))
    with pytest.raises(DataError, match="no documents in it"):
        read(tmp_path / "x")
    with pytest.raises(DataError, match="not a folder saved by datasets"):
        read(tmp_path)


def test_images_of_a_dataset_stay_encoded_and_are_hashed_by_content(tmp_path: Path) -> None:
    pictures = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (0, 9, 0)]
    features = datasets.Features(image=datasets.Image())
    found = datasets.Dataset.from_dict({"image": pictures}, features=features)
    found.save_to_disk(str(tmp_path / "x"))
    rows = read(tmp_path / "x")
    assert rows.cells[0]["image"]["bytes"].startswith(b"\x89PNG")
    keys = document_keys(rows)
    assert keys[0] == keys[2] != keys[1]


def test_a_dataset_of_the_hub_is_asked_for_by_name_and_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(name: str, config: str | None, *, trust_remote_code: bool) -> datasets.DatasetDict:
        assert (name, config, trust_remote_code) == ("org/name", "small", False)
        return datasets.DatasetDict(train=table(), validation=table(["v"]))

    monkeypatch.setattr(datasets, "load_dataset", load)
    rows = load_rows(EvalData("org/name", config="small"))
    assert cells(rows) == [{"text": "v", "label": 0}]
    assert rows.source == "org/name"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (datasets.exceptions.DatasetNotFoundError("gone"), "no such dataset on the Hub: gone"),
        (ConnectionError("no route"), "the Hub could not be asked for a dataset: no route"),
        (ValueError("BuilderConfig 'x' not found"), "cannot be read: BuilderConfig 'x' not found"),
    ],
)
def test_errors_of_the_hub(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def load(name: str, config: str | None, *, trust_remote_code: bool) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=rf"org/name: .*{message}"):
        load_rows(EvalData("org/name"))


@pytest.mark.slow
def test_the_library_itself_offline() -> None:
    code = (
        "from mergekit_geo.data.load import load_rows\n"
        "from mergekit_geo.config.data import EvalData\n"
        "load_rows(EvalData('nobody/nothing'))"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "DataError: nobody/nothing: no such file, and the Hub could not be asked" in found.stderr
