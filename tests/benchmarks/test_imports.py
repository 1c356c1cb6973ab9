"""What benchmarks and examples take from the package is there: most of them run seldom."""

import ast
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import mergekit_geo as geo
from tests.conftest import ROOT

FILES = [path for folder in ("benchmarks", "examples") for path in (ROOT / folder).glob("*.py")]


def taken(path: Path) -> Iterator[tuple[str, str]]:
    """Modules of the package, and the names that a file imports from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mergekit_geo"):
            yield from ((node.module or "", name.name) for name in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "geo":
            yield "mergekit_geo", node.attr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_imports_are_there(path: Path) -> None:
    for module, name in set(taken(path)):
        if module == "mergekit_geo":
            assert name in geo.__all__, f"{path}: mergekit_geo.{name}"
        else:
            found = hasattr(import_module(module), name) or find_spec(f"{module}.{name}")
            assert found, f"{path}: {module}.{name}"
