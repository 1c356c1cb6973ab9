"""Functions and classes of the standard library of the running Python, as source code.

The files are read and parsed, never imported. Of each top-level module or package the first
definitions count, so that large packages do not outweigh the others and reading takes about a
second. Tables at the top level of a module are no definitions, and so are left out.
"""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

from mergekit_geo.config.data import PYTHON_SOURCE
from mergekit_geo.data.held_out import Pieces
from mergekit_geo.errors import DataError

OF_A_PACKAGE, OF_A_DEFINITION = 8_000, 4_000
"""Most characters of one package and of one definition: of a longer class its first methods."""

READ = 3 * OF_A_PACKAGE
"""Characters of a file that are looked through for definitions, about."""

LEFT_OUT = {"encodings", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "turtledemo"}
"""Packages of generated tables, tests, bundles and examples."""

TESTS = {"test", "tests"}
NEXT = re.compile(r"\n\n(?=def |async def |class |@)")
"""What stands before a definition at the top level."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def python_source() -> list[Pieces]:
    """Functions and classes by package and file; a package is a group.

    Raises:
        DataError: This Python comes without its source.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    names = sorted(sys.stdlib_module_names - LEFT_OUT)
    found = [document for name in names for document in _of_package(folder, name)]
    if not found:
        raise DataError(
            f"this Python has no source of its standard library in {folder}",
            where=PYTHON_SOURCE,
            remedy="give a file with --data, or use a Python that was installed with its source",
        )
    return found


def _of_package(folder: Path, package: str) -> Iterator[Pieces]:
    """The first definitions of a package, up to its share of characters."""
    left = OF_A_PACKAGE
    for path in _files(folder, package):
        module = ".".join(path.relative_to(folder).with_suffix("").parts)
        for name, pieces in _definitions(path):
            kept = list(_within(pieces, min(left, OF_A_DEFINITION)))
            left -= sum(map(len, kept))
            if kept:
                yield Pieces(f"{module}.{name}", package, kept)
        if left < OF_A_PACKAGE // 20:
            return


def _files(folder: Path, package: str) -> list[Path]:
    single = folder / f"{package}.py"
    if single.is_file():
        return [single]
    found = sorted((folder / package).rglob("*.py"))
    return [path for path in found if TESTS.isdisjoint(path.relative_to(folder).parts)]


def _within(pieces: list[str], most: int) -> Iterator[str]:
    for piece in pieces:
        most -= len(piece)
        if most < 0:
            return
        yield piece


def _definitions(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Name and pieces of each definition at the top level: a function, or a class by its parts."""
    with tokenize.open(path) as file:  # in the encoding that it declares
        text = file.read()
    lines = text.split("\n")  # as the parser counts them
    for node in _parsed(text).body:
        if isinstance(node, Definition):
            yield node.name, _pieces(node, lines)


def _parsed(text: str) -> ast.Module:
    """The beginning of a module, which ends before a definition; parsing all takes longer."""
    if later := NEXT.search(text, READ):
        try:
            return ast.parse(text[: later.start() + 1])
        except SyntaxError:  # it ends within a string
            pass
    return ast.parse(text)


def _pieces(node: Definition, lines: list[str]) -> list[str]:
    """A function whole; of a class what stands before its first method, and each method."""
    inner = node.body if isinstance(node, ast.ClassDef) else []
    starts = [_start(node), *(_start(part) for part in inner if isinstance(part, Definition))]
    ends = [*starts[1:], node.end_lineno]
    found = ["\n".join(lines[a:b]).rstrip() for a, b in zip(starts, ends, strict=True)]
    return [piece for piece in found if piece]


def _start(node: Definition) -> int:
    """Index of the first line, decorators included."""
    return min([node.lineno, *(mark.lineno for mark in node.decorator_list)]) - 1
