"""Every public name has its place in the API pages, and a docstring with an example that runs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

import mergekit_geo as geo
from scripts.docs.blocks import ROOT, blocks_in
from tests.docs.running import Session

PUBLIC = {name: getattr(geo, name) for name in geo.__all__}
DOCS = {name: inspect.getdoc(one) or "" for name, one in PUBLIC.items()}
FENCED = [name for name, text in DOCS.items() if any(one.is_run for one in blocks_in(Path(), text))]
CLASSES = [name for name, one in PUBLIC.items() if inspect.isclass(one)]
FUNCTIONS = [name for name, one in PUBLIC.items() if inspect.isfunction(one)]


def test_the_pages_of_the_api_hold_every_public_name() -> None:
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "python").glob("*.md"))
    assert sorted(re.findall(r"^::: mergekit_geo\.(\w+)$", pages, re.MULTILINE)) == geo.__all__


@pytest.mark.parametrize("name", geo.__all__)
def test_a_public_name_has_an_example(name: str) -> None:
    """Lines after `>>>` are run where doctests are, blocks of Python below."""
    assert ">>> " in DOCS[name] or "```python" in DOCS[name]


@pytest.mark.parametrize("name", FENCED)
@pytest.mark.slow
def test_the_example_of_a_docstring_runs(name: str, session: Session) -> None:
    for block in blocks_in(Path(f"mergekit_geo.{name}"), DOCS[name]):
        session.run(block)


def arguments(text: str) -> set[str]:
    """Names in the sections on arguments and attributes of a docstring."""
    found = re.findall(r"^(?:Args|Attributes):\n((?:(?:    .*)?\n?)+)", text, re.MULTILINE)
    return set(re.findall(r"^    (\w+): \S", "\n".join(found), re.MULTILINE))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_documented(name: str) -> None:
    assert set(inspect.signature(PUBLIC[name]).parameters) <= arguments(DOCS[name])


@pytest.mark.parametrize("name", CLASSES)
def test_everything_public_of_a_class_is_documented(name: str) -> None:
    for attribute, value in own_members(PUBLIC[name]):
        assert inspect.getdoc(value), f"{name}.{attribute} has no docstring"
    if is_dataclass(PUBLIC[name]):
        assert {one.name for one in fields(PUBLIC[name])} <= arguments(DOCS[name])


def own_members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that a class of this package defines."""
    ours = [base for base in kind.__mro__ if base.__module__.startswith("mergekit_geo")]
    for base in ours:
        for name, value in vars(base).items():
            if not name.startswith("_") and (callable(value) or hasattr(value, "__get__")):
                yield name, value
