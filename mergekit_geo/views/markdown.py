"""Blocks as Markdown in which text from outside has no power."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from mergekit_geo.views import block

ACTIVE = re.compile(r"([\\`*_~\[\]<>|&#!$@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
"""Emphasis, links (bare ones too), images, HTML, tables, headings, formulas, addresses."""


def render(blocks: Sequence[block.Block]) -> str:
    """Blocks below each other; empty where all of them are."""
    return "\n\n".join(text for shown in blocks if (text := RENDERED[type(shown)](shown)))


def escape(text: str) -> str:
    r"""Text as it is read, in one line.

    Example:
        >>> print(escape("<b>a|b</b>"))
        &lt;b&gt;a\|b&lt;/b&gt;
    """
    flat = " ".join(_printable(text).split())
    return ACTIVE.sub(r"\\\1", flat).replace("\\<", "&lt;").replace("\\>", "&gt;")


def _items(shown: block.Items) -> str:
    return "\n".join(f"- {escape(text)}" for text in shown.texts)


def _table(shown: block.Table) -> str:
    if not shown.rows:
        return ""
    lines = [["---"] + ["---:"] * (len(shown.head) - 1)]
    for i, row in enumerate(shown.rows):
        texts = [(escape(cell), (i, j) in shown.best) for j, cell in enumerate(row)]
        lines.append([f"**{text}**" if strong else text for text, strong in texts])
    return "\n".join("| " + " | ".join(line) + " |" for line in [map(escape, shown.head), *lines])


def _chart(shown: block.Chart) -> str:
    return f"![{escape(shown.caption)}]({block.FIGURES}/{shown.name}.png)" if shown.name else ""


def _code(shown: block.Code) -> str:
    """A fence that the text cannot close.

    Example:
        >>> print(_code(block.Code("echo '```'")))
        ````sh
        echo '```'
        ````
    """
    longest = max(map(len, re.findall("`+", shown.text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{shown.language}\n{_printable(shown.text)}\n{fence}" if shown.text else ""


def _section(shown: block.Section) -> str:
    inside = render(shown.blocks)
    return f"## {escape(shown.title)}\n\n{inside}" if inside else ""


RENDERED: dict[type, Callable[[Any], str]] = {
    block.Paragraph: lambda shown: escape(shown.text),
    block.Items: _items,
    block.Table: _table,
    block.Chart: _chart,
    block.Code: _code,
    block.Link: lambda shown: f"[{escape(shown.text)}]({shown.address})",
    block.Section: _section,
    block.Folded: lambda shown: "",
}


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)
