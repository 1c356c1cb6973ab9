"""Blocks as one self-contained page of HTML: no network, light and dark, for a desk and a phone.

Everything from outside goes through `text`; charts and data travel as JSON that cannot end its
script. The page's policy forbids whatever would leave it.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from mergekit_geo.printable import printable
from mergekit_geo.views import block
from mergekit_geo.views.chart import Dots, Picture
from mergekit_geo.views.plotly_.figures import figures

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' blob:; "
    "worker-src blob:; img-src data: blob:; base-uri 'none'; form-action 'none'"
)

INTERVAL = re.compile(r"\[[^\[\]]*\]|± \S+")
"""What follows a number in a cell, and goes below it where space is short."""

ARROW = re.compile(" (?=[↓↑]$)")
SECTION = re.compile('<h2 id="([^"]*)">(.*?)</h2>')
ABREAST = 3
"""Most panels that are broad."""

BRIEF = 12
"""Most characters of names beside panels that are narrow."""

CHUNK = 1 << 16
"""Characters of a script that are copied at a time."""


@dataclass(frozen=True)
class Page:
    """A page of blocks below a headline.

    Attributes:
        title: Of the window and the page.
        headline: What is said first.
        blocks: All else, in order.
        about: A line below the title.
        data: JSON that everything was drawn from; empty for none.
        source: Address of a file that holds the same; empty for none.
    """

    title: str
    headline: Sequence[str]
    blocks: Sequence[block.Block]
    about: str = ""
    data: str = ""
    source: str = ""

    def pieces(self) -> Iterator[str]:
        """The document, piece by piece, so that the drawing library is never held whole."""
        yield '<!doctype html><html lang="en"><head><meta charset="utf-8">\n'
        yield f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        yield f"<title>{text(self.title)}</title>\n"
        yield f"<style>{_resource('page.css')}</style></head><body>\n"
        yield f"<h1>{text(self.title)}</h1>\n"
        yield _inside("p", self.about, "what")
        yield _div("headline", "".join(_inside("p", words) for words in self.headline))
        drawn: Figures = {}
        inside = _render(self.blocks, drawn)
        yield _contents(inside, self.source)
        yield inside
        yield _json("report", self.data) if self.data else ""
        if drawn:
            yield _json("charts", json.dumps(drawn))
            yield from _script(files("plotly").joinpath("package_data", "plotly.min.js"))
            yield from _script(files("mergekit_geo.views").joinpath("page.js"))
        yield "</body></html>\n"


def _contents(inside: str, source: str) -> str:
    """Links to the sections of a page that has several, and to the file of its numbers."""
    found = SECTION.findall(inside)
    links = [f'<a href="#{place}">{title}</a>' for place, title in found if len(found) > 1]
    links += [f'<a href="{text(source)}">{text(source)}</a>'] if source else []
    return f"<nav>{' '.join(links)}</nav>\n" if links else ""


Figures = dict[str, Any]
"""What plotly.js is to draw, by its place."""


def _render(blocks: Sequence[block.Block], drawn: Figures) -> str:
    """Blocks below each other; pictures are added to `drawn`."""
    return "\n".join(RENDERED[type(shown)](shown, drawn) for shown in blocks).strip()


def _items(shown: block.Items, drawn: Figures) -> str:
    items = "".join(_inside("li", words) for words in shown.texts)
    return f"<ul>{items}</ul>" if items else ""


def _chart(shown: block.Chart, drawn: Figures) -> str:
    """Pictures, and the numbers behind them."""
    places = []
    for figure in figures(shown.picture):
        place = f"chart-{len(drawn)}"
        drawn[place] = figure
        size = f"height: {figure['layout']['height']}px"
        size += f"; max-width: {figure['width']}px" if "width" in figure else ""
        places.append(f'<div class="chart" id="{place}" style="{size}"></div>')
    caption = _inside("figcaption", shown.picture.caption)
    numbers = _folded(
        block.Folded("the numbers behind it", [block.Table(*shown.picture.numbers())]), drawn
    )
    kind = "many panels" if len(places) > ABREAST and _is_small(shown.picture) else "panels"
    return f"<figure>{_div(kind, ''.join(places))}{caption}{numbers}</figure>"


def _is_small(picture: Picture) -> bool:
    """Whether the texts of a picture leave room where its panels are narrow."""
    return not isinstance(picture, Dots) or max(map(len, picture.names), default=0) <= BRIEF


def _table(shown: block.Table, drawn: Figures) -> str:
    """A table that scrolls by itself where it is wide; intervals stay in one piece."""
    top = "".join(f"<th>{ARROW.sub('&nbsp;', text(cell))}</th>" for cell in shown.head)
    body = "".join(
        "<tr>" + "".join(_cell(cell, (i, j) in shown.best) for j, cell in enumerate(row)) + "</tr>"
        for i, row in enumerate(shown.rows)
    )
    inside = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return _div("wide", inside) if body else ""


def _cell(words: str, best: bool) -> str:
    whole = INTERVAL.sub(lambda found: found[0].replace(" ", "&nbsp;"), text(words))
    return f"<td><strong>{whole}</strong></td>" if best else f"<td>{whole}</td>"


def _section(shown: block.Section, drawn: Figures) -> str:
    inside = _render(shown.blocks, drawn)
    place = re.sub(r"[^a-z0-9]+", "-", shown.title.lower())
    return f'<h2 id="{place}">{text(shown.title)}</h2>\n{inside}' if inside else ""


def _folded(shown: block.Folded, drawn: Figures) -> str:
    inside = _render(shown.blocks, drawn)
    title = f"<summary>{text(shown.title)}</summary>"
    return f"<details>{title}{inside}</details>" if inside else ""


def _link(shown: block.Link, drawn: Figures) -> str:
    return f'<p><a href="{text(shown.address)}">{text(shown.text)}</a></p>'


RENDERED: dict[type, Callable[[Any, Figures], str]] = {
    block.Paragraph: lambda shown, drawn: _inside("p", shown.text),
    block.Items: _items,
    block.Table: _table,
    block.Chart: _chart,
    block.Code: lambda shown, drawn: _inside("pre", shown.text),
    block.Link: _link,
    block.Section: _section,
    block.Folded: _folded,
}


def _inside(tag: str, words: str, kind: str = "") -> str:
    """An element of text; nothing where there is none."""
    opening = f'{tag} class="{kind}"' if kind else tag
    return f"<{opening}>{text(words)}</{tag}>" if words else ""


def _div(kind: str, inside: str) -> str:
    return f'<div class="{kind}">{inside}</div>' if inside else ""


def text(words: str) -> str:
    """Text from anywhere, without power over the page.

    Example:
        >>> text("<b>&")
        '&lt;b&gt;&amp;'
    """
    return html.escape(printable(words, keep="\n\t"))


def _script(source: Traversable) -> Iterator[str]:
    yield "<script>"
    with source.open("r", encoding="utf-8") as file:
        while chunk := file.read(CHUNK):
            yield chunk
    yield "</script>\n"


def _json(name: str, data: str) -> str:
    """JSON as an element that no text in it can end."""
    inert = data.replace("<", r"\u003c")
    return f'<script type="application/json" id="{name}">{inert}</script>'


def _resource(name: str) -> str:
    return files("mergekit_geo.views").joinpath(name).read_text("utf-8")
