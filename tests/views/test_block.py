"""Every kind of block is shown in every place, and every record and picture by somebody."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from markdown_it import MarkdownIt

from mergekit_geo.records.landscape import ScaleEntry
from mergekit_geo.records.report import Report
from mergekit_geo.views import console, html, markdown
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
    table,
)
from mergekit_geo.views.chart import (
    Distributions,
    Dot,
    Dots,
    Gap,
    Heatmap,
    HeightMap,
    HeightMaps,
    Line,
    Lines,
    Marker,
    Panel,
    Picture,
    Relief,
)
from mergekit_geo.views.console import InertConsole
from mergekit_geo.views.matplotlib_.draw import draw
from mergekit_geo.views.plotly_.figures import figures
from mergekit_geo.views.scatter import Points, ScatterPanel, Scatters, Stairs
from mergekit_geo.views.style import style
from mergekit_geo.views.view import VIEWS

HOSTILE = '<img src=x onerror="hacked()">|[x](http://evil.example)\x1b[31m\n# `$\\frac$`'

GAP = Gap(0.5, 1.5, 0.3, 0.1, 0.5, HOSTILE)
CURVE = Line(HOSTILE, [0, 0.5, 1], [1.0, None, 2.0], GAP, star=(0.0, 1.0))
SURFACE = HeightMap(
    HOSTILE, HOSTILE, HOSTILE, [0.0, 1.0], [0.0, 1.0], [[1.0, 2.0], [3.0, None]],
    [Marker(HOSTILE, 0.5, 0.5, off=0.0, height=1.5, spans=True, on=True)],
)  # fmt: skip
POINTS = Points(HOSTILE, style(0), [0.5, 1.0], [1.0, 2.0], [HOSTILE] * 2, [HOSTILE, ""])
SEEN = ([SURFACE], ScaleEntry(low=1.0, high=3.0, log=False), HOSTILE, HOSTILE)
PICTURES: list[Picture] = [
    Lines("t", HOSTILE, [CURVE], HOSTILE),
    Distributions(
        "x", "y", [Stairs(HOSTILE, [1.0, 2.0], [0.5, 1.0], ([0.4, 0.9], [0.6, 1.0]))], 0.1
    ),
    Dots(
        [HOSTILE, HOSTILE],
        [False, True],
        [Panel(HOSTILE, [Dot(1.0), Dot(2.0, 1.5, 2.5)], 0.0, (1.0, 2.0)), Panel("x", [None] * 2)],
        HOSTILE,
    ),
    Heatmap("cosine", [HOSTILE], ["a", "b"], [[1.0, None]]),
    Heatmap(HOSTILE, [HOSTILE], ["a", "b"], [[0.0, 0.1]], log=True, caption=HOSTILE),
    HeightMaps(*SEEN),
    Relief(*SEEN),
    Scatters(
        [
            ScatterPanel(
                HOSTILE,
                HOSTILE,
                [POINTS],
                Stairs(HOSTILE, [0.0, 1.0], [2.0, 1.0], None),
                ticks=[HOSTILE, HOSTILE],
            ),
            ScatterPanel(HOSTILE, HOSTILE, [POINTS], log=True, span=(0.0, 3.0)),
        ],
        ([HOSTILE], [[HOSTILE]]),
        HOSTILE,
    ),
]


def test_every_kind_of_block_has_a_place() -> None:
    kinds = set(get_args(Block))
    assert set(markdown.RENDERED) == set(html.RENDERED) == kinds
    assert kinds - set(console.SHOWN) == {Chart, Folded}


def test_every_record_has_a_view() -> None:
    results = set(get_args(Report.model_fields["result"].annotation)) - {type(None)}
    assert set(VIEWS) == results


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: type(picture).__name__)
def test_every_picture_is_drawn_by_both(picture: Picture) -> None:
    """With the same number of panels, and names without power over either."""
    figure = draw(picture)
    figure.canvas.draw()
    found = figures(picture)
    text = json.dumps(found, allow_nan=False)
    assert "<img" not in text
    assert all(each["data"] or isinstance(picture, Dots) for each in found)
    head, rows = picture.numbers()
    assert rows
    assert all(len(row) == len(head) for row in rows)
    panels = picture.panels if isinstance(picture, Dots | HeightMaps | Scatters) else [None]
    assert len([axes for axes in figure.axes if axes.get_label() != "<colorbar>"]) == len(panels)


def test_what_is_empty_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    inside: list[Block] = [Paragraph(""), Items([]), Table(["a"], []), Code(""), table({"a": [""]})]
    nothing = Section("x", [*inside, Section("y", inside), Folded("z", inside)])
    assert markdown.render([nothing, nothing]) == ""
    page = "".join(html.Page("t", [], [nothing]).pieces())
    assert "<h2>" not in page
    assert "<script" not in page
    console.show(InertConsole(), nothing)
    assert capsys.readouterr().out.strip() == ""


def test_text_from_outside_stays_text_in_every_block(capsys: pytest.CaptureFixture[str]) -> None:
    inside: list[Any] = [
        Paragraph(HOSTILE), Items([HOSTILE]), Table([HOSTILE], [[HOSTILE]]), Code(HOSTILE),
        Chart(PICTURES[0], HOSTILE, "barrier"), Link(HOSTILE, "https://huggingface.co/a"),
    ]  # fmt: skip
    blocks: list[Block] = [*inside, Section(HOSTILE, inside), Folded(HOSTILE, inside)]
    card = MarkdownIt("commonmark").enable("table").render(markdown.render(blocks))
    page = "".join(html.Page(HOSTILE, [HOSTILE], blocks, HOSTILE, json.dumps(HOSTILE)).pieces())
    assert "<img src=x" not in card + page
    assert 'evil.example"' not in card
    assert card.count("<table>") == 2
    for block in blocks:
        console.show(InertConsole(), block)
    assert "\x1b" not in capsys.readouterr().out


def test_in_a_narrow_terminal_intervals_stand_whole_below_their_values(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cells = ["run-1", "4.3931 [4.0731, 4.7132]", "0.1680 ± 0.0449", "-0.0514 [-0.0786, -0.0242]"]
    shown = Table(["model", "loss per token", "next-token accuracy", "difference"], [cells])
    console.show(console.InertConsole(width=100), shown)
    assert " ".join(cells).split() in map(str.split, capsys.readouterr().out.splitlines())
    console.show(console.InertConsole(width=62), shown)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["run-1", "4.3931", "0.1680", "-0.0514"] in lines
    assert ["[4.0731,", "4.7132]", "±", "0.0449", "[-0.0786,", "-0.0242]"] in lines
