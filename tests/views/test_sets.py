"""Models in rows, sets in columns: on a console, a card and a page."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from mergekit_geo.records.report import Report
from mergekit_geo.records.sets import OutputSetEntry
from mergekit_geo.records.standing import standings
from mergekit_geo.views.block import Table, charts
from mergekit_geo.views.card import model_card
from mergekit_geo.views.card_data import eval_results
from mergekit_geo.views.chart import Dot, Dots
from mergekit_geo.views.console import InertConsole, show
from mergekit_geo.views.files import write_report
from mergekit_geo.views.matplotlib_.draw import draw
from mergekit_geo.views.plotly_.figures import figures
from mergekit_geo.views.sets import set_tables
from mergekit_geo.views.skills import sets_of
from mergekit_geo.views.style import FOUND
from mergekit_geo.views.view import said, view_of
from tests.views.browser import Browser
from tests.views.set_reports import one_set, report_on

LOST, KEPT, GAINED, OPEN, FEW = (0.12, 0.03), (0.0, 0.02), (-0.05, 0.02), (0.0, 0.3), (0.1, None)
LONG = (
    "org/llama-3.2-1b-instruct-finetuned-on-code",
    "org/llama-3.2-1b-instruct-finetuned-on-chat",
)

THREE = {"code": one_set(KEPT), "docs": one_set(GAINED), "chat": one_set(LOST)}
NAN = OutputSetEntry(
    data=THREE["code"].data,
    losses=[one.model_copy(update={"loss": math.nan}) for one in THREE["code"].losses],
    differences=THREE["code"].differences,
)
SIX = {**THREE, "math": one_set(OPEN), "physics": one_set(FEW), "a-set-of-a-long-name": NAN}


def printed(report: Report, width: int = 80) -> str:
    """The losses as a console of this width shows them."""
    console = InertConsole(width=width, file=io.StringIO())
    show(console, view_of(report).blocks[0])
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def tables(sets: dict[str, OutputSetEntry]) -> list[Table]:
    return set_tables(sets, standings(report_on(sets)), "the best parent")


def test_models_are_rows_and_sets_columns() -> None:
    (losses,) = tables(THREE)
    assert losses.head == ["loss per token", "code ↓", "docs ↓", "chat ↓"]
    assert [row[0] for row in losses.rows] == [
        "demo/prose", "demo/code", "output", "Δ to best parent", "best parent", "verdict",
    ]  # fmt: skip
    assert losses.rows[0][1] == "2.0000 ± 0.2000"
    assert losses.rows[3][1:] == ["+0.0000 ± 0.0200", "-0.0500 ± 0.0200", "+0.1200 ± 0.0300"]
    assert losses.rows[4][1:] == ["prose"] * 3
    assert losses.rows[5][1:] == ["kept", "gained", "lost"]
    assert set(losses.best) == {(0, 1), (2, 1), (2, 2), (0, 3)}


def test_columns_of_unlike_units_say_theirs() -> None:
    losses, scores = tables({
        "code": one_set(KEPT, (0.0, 0.01)), "chat": one_set(LOST, (-0.1, 0.01), unit="byte"),
        "docs": one_set(LOST),
    })  # fmt: skip
    assert losses.head == ["loss", "code per token ↓", "chat per byte ↓", "docs per token ↓"]
    assert scores.head[1] == "code ↑"
    assert scores.rows[-1] == ["verdict", "no difference", "worse", ""]
    assert scores.rows[-2][1:] == ["+0.0000 ± 0.0100", "-0.1000 ± 0.0100", ""]


def test_what_is_missing_leaves_no_hole() -> None:
    (losses,) = tables(SIX)
    assert losses.rows[0][6] == "not a number"
    assert losses.rows[3][5:] == ["+0.1000", "+0.0000 ± 0.0200"]
    assert losses.rows[5][4:6] == ["cannot tell"] * 2
    assert not {column for _, column in losses.best} & {6}
    one = one_set(KEPT)
    unlike = OutputSetEntry(data=one.data, losses=[], reason="it failed")
    rows = tables({"a": one, "b": unlike})[0].rows
    assert [row[2] for row in rows] == ["", "", "", "", "", "cannot tell"]


@pytest.mark.parametrize("models", [("demo/prose", "demo/code"), LONG])
def test_a_console_of_80_columns_shows_whole_numbers(models: tuple[str, ...]) -> None:
    sets = {name: one_set(LOST, models=models) for name in SIX}
    text = printed(report_on(sets))
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("+0.1200") == text.count("lost") == 6
    assert "…" in text or models != LONG
    for name in sets:
        assert f"{name} ↓" in text
    assert any(line.count("↓") == 3 for line in printed(report_on(THREE)).splitlines())


def test_a_glance_tells_which_skill_was_lost(tmp_path: Path) -> None:
    report = report_on(SIX)
    first, second = (chart.picture for chart in charts(view_of(report).blocks))
    assert isinstance(first, Dots)
    assert isinstance(second, Dots)
    assert first.names == ["code: kept", "docs: gained", "chat: lost", "math: cannot tell",
                           "physics: cannot tell", "a-set-of-a-long-name: kept"]  # fmt: skip
    assert first.styles_in(first.panels[0])[2] == FOUND["higher"]
    assert first.panels[0].dots[2] == Dot(0.12, 0.12 - 0.03, 0.12 + 0.03)
    assert first.panels[0].dots[4] == Dot(0.1)
    assert [panel.reference for panel in second.panels][:2] == [2, 2]
    assert [panel.dots[2] for panel in second.panels][2:3] == [Dot(2.12, 1.92, 2.3200000000000003)]
    assert second.panels[5].dots == [None] * 3
    for picture in (first, second):
        assert isinstance(draw(picture), Figure)
        assert len(figures(picture)) == len(picture.panels)


def test_unlike_units_are_drawn_as_shares() -> None:
    report = report_on({"a": one_set(LOST), "b": one_set(KEPT, unit="byte")})
    picture = next(charts(view_of(report).blocks)).picture
    assert isinstance(picture, Dots)
    (panel,) = picture.panels
    assert panel.title == "Δ to best parent, % ↓"
    assert [dot and round(dot.value, 9) for dot in panel.dots] == [6, 0]


def test_a_result_prints_every_set() -> None:
    text = said(report_on(THREE))
    assert "chat" in text
    assert "+0.1200 ± 0.0300" in text


def test_a_card_has_an_entry_for_each_set_and_no_path() -> None:
    sets = {name: one_set(LOST, (-0.1, 0.01), source=f"/home/me/{name}.jsonl") for name in THREE}
    report = report_on(sets)
    card = model_card(report)
    assert "/home/me" not in card
    assert "| loss per token | code ↓ | docs ↓ | chat ↓ |" in card
    assert "The output loses 0.120 ± 0.030 nats per token on code (6 %)" in card
    assert card.split("---")[1].count("dataset:") == len(sets)
    results = eval_results(report)
    assert [result.dataset_name for result in results if result.metric_type == "loss"] == [
        f"{name}: unpublished data of SHA-256 dddddddddddd (27 documents)" for name in sets
    ]
    assert len(results) == 6


@pytest.mark.slow
def test_a_page_of_six_sets_is_drawn_on_a_desk_and_a_phone(
    browser: Browser, tmp_path: Path
) -> None:
    write_report(report_on({name: one_set(LOST, models=LONG) for name in SIX}), tmp_path)
    for width, dark in ((1280, False), (400, True)):
        browser.show(tmp_path / "report.html", width, dark=dark)
        assert browser.ask("document.documentElement.scrollWidth") <= width
        assert browser.complaints() == []
    assert (tmp_path / "figures" / "skills.png").is_file()


def test_one_set_is_shown_as_before() -> None:
    report = report_on({"code": one_set(KEPT)})
    assert sets_of(report) == {}
    assert "Δ" in printed(report)
