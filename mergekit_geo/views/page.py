"""One self-contained page of HTML: no network, light and dark, for a desk and for a phone.

Everything from outside goes through `text`; charts and data travel as JSON that cannot end its
script. The page's policy forbids whatever would leave it.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from mergekit_geo.printable import printable
from mergekit_geo.views.charts import Chart

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' blob:; "
    "worker-src blob:; img-src data: blob:; base-uri 'none'; form-action 'none'"
)

CHUNK = 1 << 16
"""Characters of a script that are copied at a time."""


@dataclass
class Page:
    """A page in the making.

    Attributes:
        title: Of the window and the page.
        parts: HTML, in order.
        charts: By the id of their place.
    """

    title: str
    parts: list[str] = field(default_factory=list)
    charts: dict[str, Chart] = field(default_factory=dict)

    def section(self, title: str) -> None:
        """Begin one."""
        self.parts.append(f"<h2>{text(title)}</h2>")

    def paragraph(self, words: str, kind: str = "") -> None:
        """A line of text."""
        self.parts.append(f'<p class="{kind}">{text(words)}</p>' if words else "")

    def headline(self, sentences: Sequence[str]) -> None:
        """What is said first."""
        lines = "".join(f"<p>{text(sentence)}</p>" for sentence in sentences)
        self.parts.append(f'<div class="headline">{lines}</div>' if lines else "")

    def lines(self, items: Sequence[str]) -> None:
        """A list."""
        found = "".join(f"<li>{text(item)}</li>" for item in items)
        self.parts.append(f"<ul>{found}</ul>" if found else "")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table of text cells; wide ones scroll by themselves."""
        self.parts.append(table(head, rows))

    def chart(self, chart: Chart, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A picture, and the numbers behind it."""
        place = f"chart-{len(self.charts)}"
        self.charts[place] = chart
        self.parts.append(f'<div class="chart" id="{place}"></div>')
        self.folded("the numbers behind it", table(head, rows))

    def folded(self, title: str, inside: str) -> None:
        """HTML that opens on a click."""
        self.parts.append(f"<details><summary>{text(title)}</summary>{inside}</details>")

    def pieces(self, data: str) -> Iterator[str]:
        """The document, piece by piece, so that the drawing library is never held whole.

        Args:
            data: JSON that everything was drawn from.
        """
        yield '<!doctype html><html lang="en"><head><meta charset="utf-8">\n'
        yield f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        yield f"<title>{text(self.title)}</title>\n"
        yield f"<style>{_resource('page.css')}</style></head><body>\n"
        yield f"<h1>{text(self.title)}</h1>\n"
        yield "\n".join(self.parts)
        yield _json("report", data)
        if self.charts:
            yield _json("charts", json.dumps(self.charts))
            yield from _script(files("plotly").joinpath("package_data", "plotly.min.js"))
            yield from _script(files("mergekit_geo.views").joinpath("page.js"))
        yield "</body></html>\n"


def _script(source: Traversable) -> Iterator[str]:
    yield "<script>"
    with source.open("r", encoding="utf-8") as file:
        while chunk := file.read(CHUNK):
            yield chunk
    yield "</script>\n"


def text(words: str) -> str:
    """Text from anywhere, without power over the page.

    Example:
        >>> text("<b>&")
        '&lt;b&gt;&amp;'
    """
    return html.escape(printable(words, keep="\n\t"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """HTML of a table of text."""
    top = "".join(f"<th>{text(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    inside = f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="wide"><table>{inside}</table></div>'


def preformatted(words: str) -> str:
    """Text in a monospaced block, such as a command."""
    return f"<pre>{text(words)}</pre>"


def _json(name: str, data: str) -> str:
    """JSON as an element that no text in it can end."""
    inert = data.replace("<", r"\u003c")
    return f'<script type="application/json" id="{name}">{inert}</script>'


def _resource(name: str) -> str:
    return files("mergekit_geo.views").joinpath(name).read_text("utf-8")


def number(value: Any, form: str = ".4f") -> str:
    """Format a number for a cell; empty for None."""
    return "" if value is None else format(value, form)
