"""What only some work needs is an extra; without it that work is refused before it begins."""

import sys
import tomllib
from pathlib import Path

import pytest

import mergekit_geo as geo
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.extras import EXTRAS

ROOT = Path(__file__).parent.parent


def test_every_optional_library_is_in_the_extra_that_errors_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for library, extra in EXTRAS.items():
        assert any(line.startswith(library) for line in project["optional-dependencies"][extra])
        assert not any(line.startswith(library) for line in project["dependencies"])
    assert set(EXTRAS.values()) | {"all"} == set(project["optional-dependencies"])


@pytest.mark.parametrize(
    ("data", "missing"), [("texts.parquet", "pyarrow"), ("saved", "datasets"), ("a/b", "datasets")]
)
def test_a_merge_is_refused_before_it_begins(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, missing: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.parquet").touch()
    Path("saved").mkdir()
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(DataError, match=rf"{data}: .* needs {missing}.*'mergekit_geo\[data\]'"):
        geo.soup([small / "a", small / "b"], "out", data=geo.EvalData(data))
    assert {path.name for path in tmp_path.iterdir()} == {"texts.parquet", "saved"}


@pytest.mark.parametrize("missing", ["optuna", "cmaes"])
def test_a_search_is_refused_before_it_begins(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)
    refused = rf"geo-merge search needs {missing}.*pip install 'mergekit_geo\[search\]'"
    with pytest.raises(ArgumentError, match=refused):
        geo.search([small / "a", small / "b"], "out", data="docs.jsonl")
    assert not list(tmp_path.iterdir())
