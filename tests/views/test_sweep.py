"""Pictures and tables of a sweep between two models."""

from __future__ import annotations

from typing import Any

import pytest

from mergekit_geo.records.losses import DataEntry, Estimate
from mergekit_geo.records.sweep import SweepEntry, SweepPoint
from mergekit_geo.views.block import Chart, Folded, Paragraph, Table, charts
from mergekit_geo.views.matplotlib_.draw import draw
from mergekit_geo.views.plotly_.figures import figures
from mergekit_geo.views.scatter import Points, Scatters
from mergekit_geo.views.style import style
from mergekit_geo.views.sweep import sweep_files, sweep_section

DATA = DataEntry(
    source="x", digest="", documents=9, examples=9, available=9, tokens=9, seq_len=9, seed=0
)


def about(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.1, high=value + 0.3)


def points(*losses: float) -> list[SweepPoint]:
    return [
        SweepPoint(
            t=i / (len(losses) - 1), loss=about(loss), from_first=about(loss - losses[0]),
            from_second=about(loss - losses[-1]),
        )
        for i, loss in enumerate(losses)
    ]  # fmt: skip


def entry(**sets: list[SweepPoint]) -> SweepEntry:
    return SweepEntry(first="m/base", second="m/tuned", along="linear", taken=0.5, sets=sets)


def test_two_sets_are_drawn_against_each_other_and_over_t() -> None:
    found = entry(prose=points(3, 2, 1.5), code=points(4, 3.5, 5))
    section = sweep_section(found, {"prose": DATA, "code": DATA})
    (chart,) = charts(section.blocks)
    picture = chart.picture
    assert isinstance(picture, Scatters)
    plane, *over_t = picture.panels
    assert (list(plane.points[0].x), list(plane.points[0].y)) == ([3, 2, 1.5], [4, 3.5, 5])
    assert [list(panel.points[0].y) for panel in over_t] == [[1.5, 0.5, 0], [-1, -1.5, 0]]
    assert [(panel.points[1].x, panel.points[1].y) for panel in picture.panels] == [
        ([2], [3.5]), ([0.5], [0.5]), ([0.5], [-1.5])
    ]  # fmt: skip
    axes = draw(picture).axes
    assert [one.get_xlabel() for one in axes] == ["loss on prose ↓", "t", "t"]
    traces: list[dict[str, Any]] = figures(picture)[1]["data"]
    assert traces[0]["mode"] == "lines+markers"
    assert traces[0]["error_y"]["array"] == pytest.approx([0.3] * 3)
    assert traces[0]["error_y"]["arrayminus"] == pytest.approx([0.1] * 3)


def test_one_set_has_one_panel_and_the_taken_place_a_star() -> None:
    blocks = sweep_section(entry(data=points(3, 2, 1.5)), {"": DATA}).blocks
    told, chart, table, more = blocks
    assert isinstance(told, Paragraph)
    assert isinstance(chart, Chart)
    assert isinstance(table, Table)
    assert isinstance(more, Folded)
    assert "From base (t = 0) to tuned (t = 1)" in told.text
    assert isinstance(chart.picture, Scatters)
    assert len(chart.picture.panels) == 1
    assert [row[0] for row in table.rows] == ["0", "0.5 *", "1"]


def test_intervals_that_are_unknown_are_not_drawn() -> None:
    kind = Points("places", style(0), [0, 1], [5, 6], [], ends=[None, (5.5, 7)])
    assert kind.arms == [(0, 0), (0.5, 1)]
    assert Points("places", style(0), [0], [5], []).arms == []


def test_numbers_for_programs() -> None:
    text = sweep_files(entry(data=points(3, 2, 1.5)))["sweep.csv"]().decode()
    head, _, row, _ = text.splitlines()
    found = dict(zip(head.split(","), row.split(","), strict=True))
    assert (found["set"], found["t"], found["taken"], found["loss"]) == ("data", "0.5", "1", "2.0")
    assert (found["from_second"], found["metric"]) == ("0.5", "")
    assert sweep_files(None) == {}
