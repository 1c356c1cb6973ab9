"""report.html in a real browser, and the words it begins with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mergekit_geo as geo
from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.curvature import SharpnessEntry
from mergekit_geo.records.losses import DifferenceEntry, Estimate
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.views.basins import ONE_BASIN
from mergekit_geo.views.files import page, write_report
from mergekit_geo.views.flatness import flatness
from mergekit_geo.views.view import view_of
from tests.views.browser import Browser

pytestmark = pytest.mark.slow

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2><b>&lt;"
DATA = geo.EvalData(max_examples=150, seq_len=16)


@pytest.fixture(scope="module")
def out(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real merge with everything measured."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        geo.soup(
            [small / name for name in "abc"], folder / "out", data=DATA,
            output=geo.OutputConfig(fsync=False),
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
        assert len(marks) >= 6  # losses, differences, barriers, numbers of sharpness, distances
        assert min(marks) > 0
        assert browser.ask("document.documentElement.scrollWidth") <= width
        column = "[...document.querySelectorAll('th')].find(cell => /^Δ/.test(cell.innerText))"
        assert browser.ask(f"{column}.getBoundingClientRect().right") < width
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
    view = view_of(report)
    assert words.split("\n\n") == [*view.headline, view.next]
    assert "difference" in words


def test_the_verdict_is_in_the_report_as_on_the_page(out: Path, report: Report) -> None:
    told = json.loads((out / "report.json").read_text())["verdict"]
    assert told["sentence"] == view_of(report).headline[0]
    assert told["word"] in {"better", "worse", "no-difference", "cannot-tell"}
    differences = {entry.model: entry.value for entry in measured(report).differences}
    assert told["difference"] == differences[told["model"]]


def test_every_picture_has_its_numbers(out: Path, report: Report, browser: Browser) -> None:
    browser.show(out / "report.html")
    tables = browser.ask(
        "[...document.querySelectorAll('figure details table')]"
        ".map(table => table.querySelectorAll('tbody tr').length)"
    )
    result = measured(report)
    assert result.geometry is not None
    layers = len(result.geometry.layers)
    points = sum(len(entry.t) for entry in result.barriers)
    assert tables == [len(result.losses), points, len(result.sharpness), layers]
    embedded = json.loads(browser.ask("document.getElementById('report').textContent"))
    assert embedded == json.loads((out / "report.json").read_text())


def test_text_from_outside_stays_text(report: Report, tmp_path: Path, browser: Browser) -> None:
    """Names of models, warnings, reasons, settings: in the page and in its pictures."""
    name = json.dumps(report.models[0].name)[1:-1]
    hostile = json.dumps(f"x/{HOSTILE}")[1:-1]
    changed = Report.model_validate_json(report.to_json().replace(name, hostile))
    changed = changed.model_copy(update={"warnings": [HOSTILE], "output": HOSTILE})
    write_report(changed, tmp_path)
    browser.show(tmp_path / "report.html")
    assert browser.ask("window.hacked") is None
    assert browser.complaints() == []
    assert HOSTILE in browser.ask("document.body.innerText")
    assert browser.ask("document.title") == HOSTILE
    legend = browser.ask("document.querySelector('.legendtext').textContent")
    assert "onerror" in legend


def test_pages_of_other_commands(small: Path, tmp_path: Path, browser: Browser) -> None:
    ends = [small / "a", small / "c"]
    geo.barrier(ends, tmp_path / "barrier", points=3, data=DATA)
    geo.sharpness(ends, tmp_path / "sharpness", data=DATA)
    for name, pictures in (("barrier", 1), ("sharpness", 1)):
        command = f"geo-merge {name} {ends[0]} {ends[1]} -o {tmp_path / name} "
        assert command in (tmp_path / name / "report.html").read_text()
        browser.show(tmp_path / name / "report.html")
        assert browser.ask("document.querySelectorAll('.chart .main-svg').length") >= pictures
        assert browser.complaints() == []
        assert browser.ask("document.querySelector('.headline').innerText.length") > 20


def test_a_report_without_numbers_is_a_page_without_pictures() -> None:
    report = Report(command="soup")
    text = "".join(page(report).pieces())
    assert "plotly" not in text.lower()
    assert "<h1>geo-merge soup</h1>" in text


def entry(report: Report, role: str, name: str, value: float, **changes: object) -> SharpnessEntry:
    first = measured(report).sharpness[0]
    sampling = Estimate(value=value, low=value - 0.4, high=value + 0.4)
    now = {"value": value, "residual": 0.01, "error": 0.2, "sampling": sampling}
    largest = first.extremes.largest.model_copy(update=now)
    extremes = first.extremes.model_copy(update={"largest": largest})
    return first.model_copy(update={"role": role, "model": name, "extremes": extremes, **changes})


@pytest.mark.parametrize(
    ("own", "half", "words"),
    [
        (4.0, 0.5, "It is flatter than every parent: λ_max 4 ± 0.2 against 5 ± 0.2 to 7 ± 0.2."),
        (9.0, 0.5, "It is sharper than every parent: λ_max 9 ± 0.2 against 5 ± 0.2 to 7 ± 0.2."),
        (6.0, 0.5, "It is flatter than b; it is sharper than a: λ_max 6 ± 0.2 against"),
        (5.2, 0.5, "It is flatter than b; it is about as sharp as a (a difference of 0.71 would"),
        (5.2, 1.2, "It is flatter than b; it cannot be told by its sharpness from a (only a "
                   "difference of 1.7 would be detected): λ_max"),
        (6.0, 3.0, "It cannot be told by its sharpness from any parent (only a difference of"),
    ],
)  # fmt: skip
def test_flatness_in_words(report: Report, own: float, half: float, words: str) -> None:
    """By the paired difference; nothing found speaks for no difference only where it would be."""
    values = {"a": 5.0, "b": 7.0}
    parents = [entry(report, "parent", name, value) for name, value in values.items()]
    against = [
        DifferenceEntry(
            model=name, value=own - value, low=own - value - half, high=own - value + half,
            significant=abs(own - value) > half, detectable=half / 0.7,
        )
        for name, value in values.items()
    ]  # fmt: skip
    output = entry(report, "output", "output", own, against=against)
    assert flatness([*parents, output]).startswith(words)
    unknown = output.model_copy(update={"against": []})
    assert flatness([*parents, unknown]).startswith("It cannot be told by its sharpness from any")


def wall(report: Report, value: float, half: float | None) -> BarrierEntry:
    first, known = measured(report).barriers[0], half is not None
    ends = {"low": value - (half or 0), "high": value + (half or 0), "detectable": half}
    ends = ends if known else dict.fromkeys(ends)
    height = first.barrier.model_copy(update={"value": value, **ends})
    significant = value > half if half is not None else None
    return first.model_copy(
        update={
            "significant": significant, "barrier": height, "threshold": 0.06, "verdict": "so and so"
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("walls", "words"),
    [
        ([(0.0, 0.05)] * 3, f"{ONE_BASIN} One of 0.05 would be detected."),
        ([(0.0, 0.05), (2.0, 0.1), (0.0, 0.05)], "Barriers part 1 of 3 pairs of parents; the hig"),
        ([(0.0, 0.05), (0.01, 0.005)], "Nothing but negligible barriers stands between the par"),
        ([(0.0, 0.05), (0.01, 0.07)], "No barrier was found between the parents, but "),
        ([(2.0, 0.1)], "{pair}: so and so."),
        ([(0.0, None), (0.0, 0.05)], ""),
    ],
)
def test_basins_in_words(
    report: Report, walls: list[tuple[float, float | None]], words: str
) -> None:
    """Barriers below the threshold, 2 % of the loss, are negligible however sure they are."""
    barriers = [wall(report, *found) for found in walls]
    words = words.format(pair=f"{barriers[0].first} to {barriers[0].second}")
    result = measured(report).model_copy(update={"barriers": barriers})
    found = view_of(report.model_copy(update={"result": result})).headline
    assert len(found) == 2 + bool(words)
    assert not words or found[1].startswith(words)
