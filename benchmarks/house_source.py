"""A package as its source says it: parsed once, nothing of it is imported."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

Node = TypeVar("Node", bound=ast.AST)
Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Site:
    """Something at a line of a file.

    Attributes:
        file: Relative to the folder that holds the package.
        line: Counted from 1.
        what: What is there.
    """

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


@dataclass(frozen=True)
class Module:
    """A parsed file.

    Attributes:
        file: Relative to the folder that holds the package.
        room: The folder below the package; empty for a file at the top of it.
        text: The source.
        tree: As `ast` parses it.
    """

    file: str
    room: str
    text: str
    tree: ast.Module
    _by_type: dict[type[ast.AST], list[ast.AST]] = field(default_factory=lambda: defaultdict(list))

    @property
    def stem(self) -> str:
        """The file's name without folder and suffix."""
        return Path(self.file).stem

    def all(self, *types: type[Node]) -> Iterator[Node]:
        """All nodes of these types, in the order of `ast.walk`."""
        if not self._by_type:
            for node in ast.walk(self.tree):
                self._by_type[type(node)].append(node)
        for kind in types:
            yield from self._by_type[kind]  # type: ignore[misc]

    def functions(self) -> Iterator[Function]:
        """All functions and methods."""
        return self.all(ast.FunctionDef, ast.AsyncFunctionDef)

    def site(self, node: ast.AST, what: str) -> Site:
        """Where a node is."""
        return Site(self.file, getattr(node, "lineno", 1), what)

    @cached_property
    def code(self) -> frozenset[int]:
        """Numbers of the lines that are neither blank nor comment nor docstring.

        A string that stands alone as a statement counts as a docstring; a line within any other
        string counts as code.
        """
        within = {
            line
            for text in self.all(ast.Constant, ast.JoinedStr)
            if text.end_lineno != text.lineno
            for line in range(text.lineno, (text.end_lineno or text.lineno) + 1)
        }
        told = {
            line
            for one in self.all(ast.Expr)
            if isinstance(one.value, ast.Constant) and isinstance(one.value.value, str)
            for line in range(one.lineno, (one.end_lineno or one.lineno) + 1)
        }
        return frozenset(
            number
            for number, line in enumerate(self.text.splitlines(), 1)
            if number not in told
            and (number in within or (line.strip() and not line.lstrip().startswith("#")))
        )

    def code_of(self, node: ast.AST) -> int:
        """Lines of code of a definition."""
        first, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", 0)
        return sum(first <= line <= last for line in self.code)


@dataclass(frozen=True)
class Package:
    """The package and its README.

    Attributes:
        root: The folder that holds both.
        name: Of the package.
        modules: Every file of it.
    """

    root: Path
    name: str
    modules: tuple[Module, ...]

    @cached_property
    def exported(self) -> frozenset[str]:
        """Public names: what the package's `__init__` imports or lists in a dict.

        Names of earlier versions (`_RENAMED`) may be other things' names today.
        """
        (top,) = (m for m in self.modules if m.file == f"{self.name}/__init__.py")
        imported = {a.asname or a.name for i in top.all(ast.ImportFrom) for a in i.names}
        listed = {
            key.value
            for line in top.tree.body
            if isinstance(line, ast.Assign) and last_word(line.targets[0]) != "_RENAMED"
            for table in ast.walk(line)
            if isinstance(table, ast.Dict)
            for key in table.keys
            if isinstance(key, ast.Constant) and isinstance(key.value, str)
        }
        return frozenset(imported | listed) - {"annotations", "import_module"}

    def in_rooms(self, *rooms: str) -> Iterator[Module]:
        """Files of these rooms."""
        return (module for module in self.modules if module.room in rooms)


def read_package(root: Path, name: str) -> Package:
    """Parse every file of a package."""
    modules = []
    for path in sorted((root / name).rglob("*.py")):
        parts = path.relative_to(root / name).parts
        text = path.read_text("utf-8")
        room = parts[0] if len(parts) > 1 else ""
        modules.append(Module(str(path.relative_to(root)), room, text, ast.parse(text)))
    return Package(root, name, tuple(modules))


def called(node: ast.AST) -> str:
    """The last word of what a call calls: `b` of `a.b(...)`; empty for anything else."""
    if not isinstance(node, ast.Call):
        return ""
    return last_word(node.func)


def last_word(node: ast.AST) -> str:
    """The last word of a dotted name, also below a subscript; empty for anything else."""
    if isinstance(node, ast.Subscript):
        return last_word(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def bases(node: ast.ClassDef) -> set[str]:
    """Last words of the classes that a class derives from."""
    return {last_word(base) for base in node.bases}


def is_dataclass(node: ast.ClassDef) -> bool:
    """Whether a class is decorated as a dataclass."""
    return any("dataclass" in (last_word(d), called(d)) for d in node.decorator_list)


def fields_of(node: ast.ClassDef) -> dict[str, ast.AnnAssign]:
    """Annotated names of a class."""
    return {
        one.target.id: one
        for one in node.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }


def parameters(node: Function) -> list[tuple[ast.arg, ast.expr | None]]:
    """Parameters with their defaults, without `self`, `cls`, `*args` and `**kwargs`."""
    given = node.args
    placed = [*given.posonlyargs, *given.args]
    padded = [None] * (len(placed) - len(given.defaults)) + list(given.defaults)
    pairs = [
        *zip(placed, padded, strict=True),
        *zip(given.kwonlyargs, given.kw_defaults, strict=True),
    ]
    return [(one, default) for one, default in pairs if one.arg not in ("self", "cls")]


def texts_in(node: ast.AST | None) -> Iterator[str]:
    """All string constants below a node."""
    if node is not None:
        for one in ast.walk(node):
            if isinstance(one, ast.Constant) and isinstance(one.value, str):
                yield one.value
