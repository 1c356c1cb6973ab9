"""One self-contained page of HTML: no network, light and dark, for a desk and for a phone.

Everything from outside goes through `text`; charts and data travel as JSON that cannot end its
script. The page's policy forbids whatever would leave it.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from mergekit_geo.reports.charts import Chart

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' blob:; "
    "worker-src blob:; img-src data: blob:; base-uri 'none'; form-action 'none'"
)


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
        """Of text; wide ones scroll by themselves."""
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

    def render(self, data: str) -> str:
        """The whole document.

        Args:
            data: JSON that everything was drawn from.
        """
        return "\n".join(
            [
                '<!doctype html><html lang="en"><head><meta charset="utf-8">',
                f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>{text(self.title)}</title>",
                f"<style>{_resource('page.css')}</style></head><body>",
                f"<h1>{text(self.title)}</h1>",
                *self.parts,
                _json("report", data),
                *(self._drawing() if self.charts else []),
                "</body></html>\n",
            ]
        )

    def _drawing(self) -> list[str]:
        """Plotly once, the charts, and what draws them."""
        drawer = files("plotly").joinpath("package_data", "plotly.min.js").read_text("utf-8")
        return [
            _json("charts", json.dumps(self.charts)),
            f"<script>{drawer}</script>",
            f"<script>{_resource('page.js')}</script>",
        ]


def text(words: str) -> str:
    """Text from anywhere, without power over the page.

    Example:
        >>> text("<b>&")
        '&lt;b&gt;&amp;'
    """
    return html.escape(words)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """HTML of a table of text."""
    top = "".join(f"<th>{text(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    inside = f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="wide"><table>{inside}</table></div>'


def preformatted(words: str) -> str:
    """Such as a command."""
    return f"<pre>{text(words)}</pre>"


def _json(name: str, data: str) -> str:
    """JSON as an element that no text in it can end."""
    inert = data.replace("<", r"\u003c")
    return f'<script type="application/json" id="{name}">{inert}</script>'


def _resource(name: str) -> str:
    return files("mergekit_geo.reports").joinpath(name).read_text("utf-8")


def number(value: Any, form: str = ".4f") -> str:
    """For a cell; empty where there is none."""
    return "" if value is None else format(value, form)
