"""Blocks as Markdown in which text from outside has no power."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from mergekit_geo.views.block import (
    Block,
    Chart,
    Code,
    Folded,
    Items,
    Link,
    Paragraph,
    Section,
    Table,
)

ACTIVE = re.compile(r"([\\`*_~\[\]<>|&#!$@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
"""Emphasis, links (bare ones too), images, HTML, tables, headings, formulas, addresses."""


def render(blocks: Sequence[Block]) -> str:
    """Blocks below each other; empty where all of them are."""
    return "\n\n".join(text for block in blocks if (text := RENDERED[type(block)](block)))


def escape(text: str) -> str:
    r"""Text as it is read, in one line.

    Example:
        >>> print(escape("<b>a|b</b>"))
        &lt;b&gt;a\|b&lt;/b&gt;
    """
    flat = " ".join(_printable(text).split())
    return ACTIVE.sub(r"\\\1", flat).replace("\\<", "&lt;").replace("\\>", "&gt;")


def _items(block: Items) -> str:
    return "\n".join(f"- {escape(text)}" for text in block.texts)


def _table(block: Table) -> str:
    if not block.rows:
        return ""
    cells = ["| " + " | ".join(map(escape, line)) + " |" for line in [block.head, *block.rows]]
    rule = "| " + " | ".join(["---"] * len(block.head)) + " |"
    return "\n".join([cells[0], rule, *cells[1:]])


def _chart(block: Chart) -> str:
    return f"![{escape(block.caption)}](figures/{block.name}.png)" if block.name else ""


def _code(block: Code) -> str:
    """A fence that the text cannot close.

    Example:
        >>> print(_code(Code("echo '```'")))
        ````sh
        echo '```'
        ````
    """
    longest = max(map(len, re.findall("`+", block.text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{block.language}\n{_printable(block.text)}\n{fence}" if block.text else ""


def _section(block: Section) -> str:
    inside = render(block.blocks)
    return f"## {escape(block.title)}\n\n{inside}" if inside else ""


RENDERED: dict[type, Callable[[Any], str]] = {
    Paragraph: lambda block: escape(block.text),
    Items: _items,
    Table: _table,
    Chart: _chart,
    Code: _code,
    Link: lambda block: f"[{escape(block.text)}]({block.address})",
    Section: _section,
    Folded: lambda block: "",
}


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)
