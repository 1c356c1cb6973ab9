"""Markdown in which text from outside has no power."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

ACTIVE = re.compile(r"([\\`*_~\[\]<>|&#!$@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
"""Emphasis, links (bare ones too), images, HTML, tables, headings, formulas, addresses."""


def escape(text: str) -> str:
    r"""Text as it is read, in one line.

    Example:
        >>> print(escape("<b>a|b</b>"))
        &lt;b&gt;a\|b&lt;/b&gt;
    """
    flat = " ".join(_printable(text).split())
    return ACTIVE.sub(r"\\\1", flat).replace("\\<", "&lt;").replace("\\>", "&gt;")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are escaped here."""
    lines = [head, *rows]
    cells = ["| " + " | ".join(map(escape, line)) + " |" for line in lines]
    rule = "| " + " | ".join(["---"] * len(head)) + " |"
    return "\n".join([cells[0], rule, *cells[1:]])


def code(text: str, language: str) -> str:
    """A block of code, in a fence that the text cannot close.

    Example:
        >>> print(code("echo '```'", "sh"))
        ````sh
        echo '```'
        ````
    """
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{_printable(text)}\n{fence}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)
