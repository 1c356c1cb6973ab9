"""Code blocks of the documentation's pages, and of README.

    python -m scripts.docs.blocks    # how many there are, and which are not run

A comment on the line before a block says why no test runs it: `<!-- no-run: needs a network -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"(?P<indent> *)(?P<ticks>`{3,}) *(?P<language>[\w-]*) *(?P<info>.*)")
TITLE = re.compile(r'title="([^"]+)"')
NO_RUN = re.compile(r"<!-- no-run: (.+) -->")
INCLUDED = re.compile(r'--8<-- "([^"]+)"')
SHELLS = ("sh", "bash", "console")
PYTHONS = ("python", "pycon")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: From the root of the repository.
        line: Of its first line of text, from 1.
        language: Such as `sh`; empty if none is said.
        title: Name of the file that it shows; empty if none is said.
        text: Without the indentation of the fence.
        no_run: Why no test runs it; empty if one does.
    """

    page: Path
    line: int
    language: str
    title: str
    text: str
    no_run: str

    @property
    def place(self) -> str:
        """Page and line."""
        return f"{self.page}:{self.line}"

    @property
    def included(self) -> str:
        """The file that it shows instead of text of its own; empty if it shows none."""
        found = INCLUDED.fullmatch(self.text.strip())
        return found[1] if found else ""

    @property
    def is_run(self) -> bool:
        """Whether it is Python, or has commands of geo-merge, that a test can run."""
        return self.is_example and not self.no_run and not self.included

    @property
    def is_example(self) -> bool:
        """Whether it is Python, or has commands of geo-merge."""
        if self.language in SHELLS:
            return re.search(r"^geo-merge\b", self.text, re.MULTILINE) is not None
        return self.language in PYTHONS


def pages() -> list[Path]:
    """README and the documentation's pages, from the root of the repository."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page.relative_to(ROOT) for page in found]


def blocks_of(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order.

    Args:
        page: From the root of the repository.
    """
    yield from blocks_in(page, (ROOT / page).read_text())


def blocks_in(page: Path, text: str) -> Iterator[Block]:
    """The fenced blocks of a text, in order.

    Args:
        page: What the blocks say that they are from.
        text: Markdown.
    """
    lines, at = text.splitlines(), 0
    while at < len(lines):
        if opened := FENCE.fullmatch(lines[at]):
            end = _end(lines, at, opened)
            indent = len(opened["indent"])
            text = "\n".join(line[indent:] for line in lines[at + 1 : end]) + "\n"
            title = TITLE.search(opened["info"])
            yield Block(
                page, at + 2, opened["language"], title[1] if title else "", text,
                _no_run(lines[:at]),
            )  # fmt: skip
            at = end
        at += 1


def _end(lines: list[str], start: int, opened: re.Match[str]) -> int:
    for at in range(start + 1, len(lines)):
        closing = lines[at].strip()
        if closing.startswith(opened["ticks"]) and not closing.strip("`"):
            return at
    raise ValueError(f"line {start + 1}: the block {lines[start].strip()} does not end")


def _no_run(before: list[str]) -> str:
    found = NO_RUN.fullmatch(before[-1].strip()) if before else None
    return found[1] if found else ""


def summary() -> str:
    """How many blocks there are, and which of them no test runs."""
    found = [block for page in pages() for block in blocks_of(page) if block.is_example]
    left = [block for block in found if block.no_run]
    head = f"{len(found)} blocks of Python or geo-merge, of which {len(left)} carry no-run"
    return "\n".join([head, *(f"  {block.place}: {block.no_run}" for block in left)])


if __name__ == "__main__":
    print(summary())
