"""Reports that were written before: sound ones, damaged ones, and those of a later release."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mergekit_geo as geo
from mergekit_geo.errors import FormatError, NotFoundError
from tests.conftest import Save


@pytest.fixture
def out(save: Save, tmp_path: Path) -> Path:
    geo.soup(
        [save("a"), save("b")], tmp_path / "out", output=geo.OutputConfig(fsync=False), data=None
    )
    return tmp_path / "out"


def test_a_report_is_read_as_it_was_written(out: Path) -> None:
    report = geo.read_report(out)
    assert report.to_json() == (out / "report.json").read_text()
    assert report.command == "soup"


def test_a_report_of_a_later_version(out: Path) -> None:
    raw = json.loads((out / "report.json").read_text()) | {"schema_version": 9, "novel": True}
    (out / "report.json").write_text(json.dumps(raw))
    with pytest.raises(FormatError, match="a report of schema version 9; this release reads 1"):
        geo.read_report(out)
    with pytest.raises(FormatError, match="schema version 9"):
        geo.push(out, "org/name")


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 1}', '{"schema_version": "x"}'])
def test_a_damaged_report(out: Path, text: str) -> None:
    (out / "report.json").write_text(text)
    with pytest.raises(FormatError, match=r"not a sound report\.json"):
        geo.read_report(out)


def test_a_folder_without_a_report(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no report\.json: this is no output"):
        geo.read_report(tmp_path)
