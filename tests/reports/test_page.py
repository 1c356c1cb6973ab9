"""report.html in a real browser, and the words it begins with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mergekit_geo as geo
from mergekit_geo.reports.headline import ONE_BASIN, flatness, headline
from mergekit_geo.reports.html_report import page, write_page
from mergekit_geo.reports.losses import BarrierEntry
from mergekit_geo.reports.schema import MergeMeasurements, Report
from mergekit_geo.reports.sharpness import SharpnessEntry
from tests.reports.browser import Browser

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2><b>&lt;"
DATA = geo.EvalData(max_examples=150, seq_len=16)


@pytest.fixture(scope="module")
def out(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real merge with everything measured."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        geo.soup(
            [family / name for name in "abc"], folder / "out", data=DATA,
            output=geo.Output(fsync=False),
        )  # fmt: skip
    return folder / "out"


@pytest.fixture(scope="module")
def report(out: Path) -> Report:
    return Report.model_validate_json((out / "report.json").read_bytes())


def measured(report: Report) -> MergeMeasurements:
    assert isinstance(report.result, MergeMeasurements)
    return report.result


def test_every_picture_is_drawn_without_a_complaint(out: Path, browser: Browser) -> None:
    for width, dark in ((1200, False), (390, True)):
        browser.show(out / "report.html", width, dark=dark)
        assert browser.complaints() == []
        marks = browser.ask(
            "[...document.querySelectorAll('.chart')]"
            ".map(chart => chart.querySelectorAll('.trace path, .point path, image').length)"
        )
        assert len(marks) == 4  # barriers, sharpness, cosines, distances
        assert min(marks) > 0
        assert browser.ask("document.documentElement.scrollWidth") <= width
        paper = browser.ask("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(20, 23, 26)") == dark


def test_the_page_is_small_and_loads_nothing(out: Path, browser: Browser) -> None:
    text = (out / "report.html").read_text()
    assert len(text.encode()) < 6_000_000
    browser.show(out / "report.html")
    assert browser.ask("performance.getEntriesByType('resource').length") == 0
    assert browser.ask("document.querySelectorAll('link, script[src], img, iframe').length") == 0


def test_the_headline_comes_first(out: Path, report: Report, browser: Browser) -> None:
    browser.show(out / "report.html")
    words = browser.ask("document.querySelector('.headline').innerText")
    assert words.split("\n\n") == headline(report)
    assert "difference" in words


def test_every_picture_has_its_numbers(out: Path, report: Report, browser: Browser) -> None:
    browser.show(out / "report.html")
    tables = browser.ask(
        "[...document.querySelectorAll('.chart + details table')]"
        ".map(table => table.querySelectorAll('tbody tr').length)"
    )
    result = measured(report)
    assert result.geometry is not None
    pairs = sum(len(layer.pairs) for layer in result.geometry.layers)
    assert tables == [
        sum(len(entry.t) for entry in result.barriers), len(result.sharpness), pairs, pairs,
    ]  # fmt: skip
    embedded = json.loads(browser.ask("document.getElementById('report').textContent"))
    assert embedded == json.loads((out / "report.json").read_text())


def test_text_from_outside_stays_text(report: Report, tmp_path: Path, browser: Browser) -> None:
    """Names of models, warnings, reasons, settings: in the page and in its pictures."""
    name = json.dumps(report.models[0].name)[1:-1]
    hostile = json.dumps(f"x/{HOSTILE}")[1:-1]
    changed = Report.model_validate_json(report.to_json().replace(name, hostile))
    changed = changed.model_copy(update={"warnings": [HOSTILE], "output": HOSTILE})
    write_page(changed, tmp_path)
    browser.show(tmp_path / "report.html")
    assert browser.ask("window.hacked") is None
    assert browser.complaints() == []
    assert HOSTILE in browser.ask("document.body.innerText")
    assert browser.ask("document.title") == HOSTILE
    legend = browser.ask("document.querySelector('.legendtext').textContent")
    assert "onerror" in legend


def test_pages_of_other_commands(family: Path, tmp_path: Path, browser: Browser) -> None:
    ends = [family / "a", family / "independent"]
    geo.barrier(ends, tmp_path / "barrier", points=3, data=DATA)
    geo.sharpness(ends[0], tmp_path / "sharpness", data=DATA)
    for name, pictures in (("barrier", 1), ("sharpness", 1)):
        browser.show(tmp_path / name / "report.html")
        assert browser.ask("document.querySelectorAll('.chart .main-svg').length") >= pictures
        assert browser.complaints() == []
        assert browser.ask("document.querySelector('.headline').innerText.length") > 20


def test_a_report_without_numbers_is_a_page_without_pictures() -> None:
    report = Report(command="soup")
    text = "".join(page(report).pieces(report.to_json()))
    assert "plotly" not in text.lower()
    assert "<h1>geo-merge soup</h1>" in text


def entry(report: Report, role: str, value: float, residual: float = 0.1) -> SharpnessEntry:
    first = measured(report).sharpness[0]
    largest = first.extremes.largest.model_copy(update={"value": value, "residual": residual})
    extremes = first.extremes.model_copy(update={"largest": largest})
    return first.model_copy(update={"role": role, "extremes": extremes})


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (4.0, "It is flatter than every parent: λ_max 4 against 5 to 7."),
        (9.0, "It is sharper than every parent: λ_max 9 against 5 to 7."),
        (6.0, "It is about as sharp as its parents: λ_max 6 against 5 to 7."),
        (4.9, "It is about as sharp as its parents: λ_max 4.9 against 5 to 7."),
    ],
)
def test_flatness_in_words(report: Report, own: float, words: str) -> None:
    parents = [entry(report, "parent", value) for value in (5.0, 7.0)]
    assert flatness([*parents, entry(report, "output", own)]) == words


def wall(report: Report, significant: bool | None) -> BarrierEntry:
    first = measured(report).barriers[0]
    height = first.barrier.model_copy(update={"value": 2.0, "low": 1.5, "high": 2.5})
    return first.model_copy(update={"significant": significant, "barrier": height})


@pytest.mark.parametrize(
    ("walls", "words"),
    [
        ([False, False, False], ONE_BASIN),
        ([False, True, False], "Barriers part 1 of 3 pairs of parents; the highest"),
        ([True], "A barrier of +2.0000 [+1.5000, +2.5000] parts"),
        ([None, False, False], ""),
    ],
)
def test_basins_in_words(report: Report, walls: list[bool | None], words: str) -> None:
    barriers = [wall(report, significant) for significant in walls]
    result = measured(report).model_copy(update={"barriers": barriers})
    found = headline(report.model_copy(update={"result": result}))
    assert len(found) == 2 + bool(words)
    assert not words or found[1].startswith(words)
