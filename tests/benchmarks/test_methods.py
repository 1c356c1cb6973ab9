"""The table of all methods side by side: a row for each, and its place on a page."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks import methods
from mergekit_geo.merging.methods import METHODS

FAMILY = methods.Family(
    Path("models"), "base", ("a", "b"), {"x": "x.jsonl", "y": "y.jsonl"},
    {"a": "a.jsonl", "b": "b.jsonl", "base": "a.jsonl"}, 10,
)  # fmt: skip


def test_every_method_has_a_row_of_its_own() -> None:
    found = [row[0] for one in METHODS.values() for row in methods.calls(FAMILY, one)]
    swept = {"wise-ft, base to a", "wise-ft, base to b"}
    assert sorted(found) == sorted(METHODS.keys() - {"wise-ft"} | swept)
    assert methods.SETTINGS.keys() <= METHODS.keys()


def test_settings_are_parameters_of_their_methods() -> None:
    for name, given in methods.SETTINGS.items():
        known = {each.keyword for each in METHODS[name].parameters}
        assert given.keys() <= known, name


def entry(role: str, name: str, loss: float, **more: Any) -> SimpleNamespace:
    return SimpleNamespace(role=role, model=name, loss=loss, **more)


def test_a_difference_is_that_to_the_better_parent() -> None:
    losses = [entry("parent", "a", 2.0), entry("parent", "b", 1.0), entry("output", "output", 1.5)]
    differences = [
        SimpleNamespace(model="a", value=-0.5, low=-0.6, high=-0.4),
        SimpleNamespace(model="b", value=0.5, low=0.4, high=0.6),
    ]
    assert methods.best_difference(losses, differences).value == 0.5


def test_a_table_replaces_that_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- table: demo -->\nold\n<!-- end: demo -->\nb\n")
    for text in ("new \\1", "newer"):
        methods.put(page, "demo", text)
    assert page.read_text() == "a\n<!-- table: demo -->\nnewer\n<!-- end: demo -->\nb\n"


def test_what_is_refused_says_why() -> None:
    cells = methods.Row("ties", "density 0.5", why="no base").cells(["x", "y"])
    assert cells[:3] == ["ties", "density 0.5", "refused: no base"]
    assert len(cells) == len(methods.HEAD)
