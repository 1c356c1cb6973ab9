"""Pictures of landscapes: one scale, honest labels, and text from outside that stays text."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from mergekit_geo.records.landscape import (
    AxisEntry,
    LandscapeMeasurements,
    MarkEntry,
    RunEntry,
    ScaleEntry,
    SurfaceEntry,
    TrajectoryEntry,
)
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.records.report import Report
from mergekit_geo.views.chart import HeightMaps, Relief
from mergekit_geo.views.files import write_figures, write_report
from mergekit_geo.views.landscape import landscape_lines, surfaces
from mergekit_geo.views.levels import labels_of, levels_of, overflow, raised
from mergekit_geo.views.matplotlib_.draw import draw
from mergekit_geo.views.plotly_.figures import figures
from mergekit_geo.views.view import view_of
from tests.views.browser import Browser

HOSTILE = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">$\\frac{1}$'


def bowl(centre: float = 3.0, width: float = 1.0) -> list[list[float | None]]:
    places = np.linspace(-1, 1, 7)
    return [[float(centre + x**2 + width * y**2) for x in places] for y in places]


def mark(model: str, x: float, y: float, off: float = 0.0, **options: Any) -> MarkEntry:
    return MarkEntry(model=model, spans=off == 0, x=x, y=y, off_plane=off, loss=3.5, **options)


def surface(
    *marks: MarkEntry, loss: list[list[float | None]] | None = None, tall: float = 1.0
) -> SurfaceEntry:
    kind: Any = "plane" if len([m for m in marks if m.spans]) == 3 else "around"
    axis = AxisEntry(
        kind="model" if kind == "plane" else "random", unit="distance", length=1.0, filter_norms=0.1
    )
    places = np.linspace(-1, 1, 7)
    return SurfaceEntry(
        kind=kind, axes=[axis, axis], cosine=0.1, x=places.tolist(), y=(tall * places).tolist(),
        loss=loss or bowl(), metric=None, marks=list(marks),
    )  # fmt: skip


def report(*surfaces: SurfaceEntry, log: bool = False, high: float = 5.0) -> Report:
    scale = ScaleEntry(low=3.0, high=high, log=log)
    data = DataEntry(
        source="texts.jsonl", digest="", documents=9, examples=40, available=40, tokens=900,
        seq_len=32, seed=0,
    )  # fmt: skip
    result = LandscapeMeasurements(surfaces=list(surfaces), scale=scale, losses=[])
    return Report(command="landscape", data=data, result=result)


def chart(found: Report) -> HeightMaps:
    assert isinstance(found.result, LandscapeMeasurements)
    return surfaces(found.result, found.data)


def page_of(found: Report) -> str:
    return view_of(found).files["landscape.html"]().decode()


def relief(*marks: MarkEntry) -> list[dict[str, Any]]:
    """Traces of one surface in three dimensions."""
    seen = chart(report(surface(*marks)))
    (figure,) = figures(Relief(seen.panels, seen.scale, seen.title, seen.caption))
    traces: list[dict[str, Any]] = figure["data"]
    return traces


THREE = (mark("x/a", -0.5, 0.0), mark("x/b", 0.5, 0.0), mark("x/c", 0.0, 0.6))


@given(st.floats(-5, 20), st.floats(1e-4, 100), st.booleans())
def test_levels_ascend_cover_the_scale_and_can_be_told_apart(
    low: float, length: float, log: bool
) -> None:
    scale = ScaleEntry(low=low, high=low + length, log=log)
    levels = levels_of(scale)
    assert (np.diff(levels) > 0).all()
    rounding = 1e-6 * length
    assert levels[0] <= scale.low + rounding
    assert levels[-1] >= scale.high - rounding
    assert 4 <= len(levels) <= 16
    texts = labels_of(scale)
    assert len(set(texts)) == len(texts) == len(levels)
    heights = raised(levels, scale)
    assert (np.diff(heights) > 0).all()


def test_logarithmic_heights_are_even_in_the_logarithm() -> None:
    scale = ScaleEntry(low=2.0, high=12.0, log=True)
    found = raised(np.array([2.0, 2.01, 2.1, 3.0, 12.0, 99.0]), scale)
    assert found == pytest.approx([0, 0, 1, 2, 3, 3])


def test_losses_beyond_a_scale_are_told() -> None:
    found = chart(report(surface(*THREE)))
    assert overflow(found) == "neither"
    for low, high, told in ((3.0, 4.0, "max"), (3.5, 5.0, "min"), (3.5, 4.0, "both")):
        scale = ScaleEntry(low=low, high=high, log=False)
        assert overflow(replace(found, scale=scale)) == told


def texts_of(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible()]


def test_a_figure_names_its_models_axes_and_data() -> None:
    far = mark("y/out", 0.2, 0.1, off=0.7)
    texts = texts_of(draw(chart(report(surface(*THREE, far)))))
    for expected in (
        "a", "b", "c", "out (0.7 off)", "the plane through a, b and c", "distance from a towards b",
        "distance from the line of a and b", "loss per token", "3.2",
        "texts.jsonl: 900 tokens, 40 examples, 9 documents; 7 x 7 points",
    ):  # fmt: skip
        assert expected in texts, expected


def test_a_model_outside_the_picture_is_told() -> None:
    texts = texts_of(draw(chart(report(surface(*THREE, mark("y/far", 5.0, 0.1, off=0.7))))))
    assert any(text.endswith("; outside: far") for text in texts)
    assert not any(text.startswith("far (") for text in texts)


def test_labels_of_models_that_are_close_do_not_cover_each_other() -> None:
    close = [mark(f"x/model-{i}", 0.01 * i, 0.005 * i) for i in range(4)]
    figure = draw(chart(report(surface(*close))))
    figure.canvas.draw()
    boxes = [
        text.get_window_extent()
        for text in figure.findobj(Text)
        if text.get_text().startswith("model-")
    ]
    assert len(boxes) == 4
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert not any(first.overlaps(second) for first, second in pairs)


def test_pictures_of_one_report_share_their_colours() -> None:
    figure = draw(chart(report(surface(THREE[0]), surface(THREE[1], loss=bowl(4.0)))))
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    colours = [[tuple(colour) for colour in axes.collections[0].get_facecolor()] for axes in panels]
    limits = [axes.collections[0].levels.tolist() for axes in panels]  # type: ignore[attr-defined]
    assert len(panels) == 2
    assert colours[0] == colours[1]
    assert limits[0] == limits[1]


def test_a_strip_is_not_drawn_to_scale_and_says_so() -> None:
    texts = texts_of(draw(chart(report(surface(*THREE, tall=20.0)))))
    assert any(text.endswith("axes not to scale") for text in texts)


@pytest.mark.slow
def test_gaps_and_no_finite_loss_can_be_drawn(tmp_path: Path) -> None:
    holes = bowl()
    holes[0][0] = holes[3][4] = None
    nothing: list[list[float | None]] = [[None] * 7 for _ in range(7)]
    found = report(surface(THREE[0], loss=holes), surface(THREE[1], loss=nothing))
    write_figures(view_of(found), tmp_path)
    with np.load(tmp_path / "landscape.npz") as arrays:
        assert np.isnan(arrays["loss"]).sum(axis=(1, 2)).tolist() == [2, 49]
    assert isinstance(found.result, LandscapeMeasurements)
    assert landscape_lines(found.result) == [
        "Around x/a: 7 x 7 points, loss from 3.0000 to 5.0000, not finite at 2",
        "Around x/b: 7 x 7 points, no finite loss",
    ]


@pytest.mark.slow
def test_the_same_numbers_give_the_same_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_figures(view_of(report(surface(*THREE), log=True)), tmp_path / name)
    for file in ("landscape.png", "landscape.svg", "landscape.npz"):
        first, second = (tmp_path / name / file for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


def test_a_page_is_one_file_that_asks_no_network() -> None:
    page = page_of(report(surface(*THREE), surface(THREE[0])))
    outside = re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)\s*=", outside)
    assert not re.search(r"<script[^>]+src=", page)
    assert len(page) < 6e6
    assert page.count("plotly.js v") <= 2  # included once, whatever the number of surfaces
    assert "Measured on texts.jsonl: 900 tokens" in outside


def test_names_from_outside_are_text_on_the_page() -> None:
    hostile = (mark(HOSTILE, -0.5, 0.0), *THREE[1:], mark(HOSTILE, 0.1, 0.1, off=1.0))
    page = page_of(report(surface(*hostile)))
    assert "<img src=x" not in page
    assert "<script>window.hacked" not in page
    assert "&lt;script&gt;window.hacked" in page


def test_a_hostile_name_can_be_drawn(tmp_path: Path) -> None:
    hostile = (mark(HOSTILE, -0.5, 0.0), *THREE[1:])
    write_figures(view_of(report(surface(*hostile))), tmp_path)
    svg = (tmp_path / "landscape.svg").read_text()
    assert "<script" not in svg
    assert "<img" not in svg


def test_models_are_pinned_at_their_own_loss() -> None:
    sheet, *pins = relief(*THREE, mark("out", 0.2, 0.1, off=0.7))
    feet = [pin for pin in pins if pin["mode"] == "markers"]
    assert [(foot["x"][0], foot["y"][0], foot["z"][0]) for foot in feet] == [
        (-0.5, 0.0, 3.5), (0.5, 0.0, 3.5), (0.0, 0.6, 3.5), (0.2, 0.1, 3.5),
    ]  # fmt: skip
    assert np.array(sheet["customdata"]) == pytest.approx(np.array(bowl(), dtype=float))


def test_names_above_models_that_are_close_stand_at_different_heights() -> None:
    close = [mark(f"m{i}", 0.02 * i, 0.0) for i in range(3)]
    _, *pins = relief(*close, mark("far", 0.9, 0.9, off=1.0))
    tops = [pin["z"][1] for pin in pins if pin["mode"] == "lines+text"]
    assert len(set(tops[:3])) == 3
    assert tops[3] == tops[0]


def trajectory(count: int = 4) -> SurfaceEntry:
    """Two runs that part at their start, beside a further model."""
    first = [mark(f"x/step-{i}", -0.9 + 0.5 * i, 0.1 * i, off=0.2) for i in range(count)]
    second = [mark(f"y/step-{i}", -0.4 + 0.01 * i, 0.4, off=0.2) for i in (5, 6, 7)]
    axes = [
        AxisEntry(kind="principal", unit="distance", length=1.0, explained=share)
        for share in (0.7, 0.2)
    ]
    runs = [
        RunEntry(name="x", marks=[*range(count)], steps=[None, *range(1, count)]),
        RunEntry(name="y", marks=[0, count, count + 1, count + 2], steps=[None, 5, 6, 7]),
    ]
    return surface(*first, *second, mark("z/base", 0.3, -0.4, off=1.0)).model_copy(
        update={
            "kind": "trajectory",
            "axes": axes,
            "trajectory": TrajectoryEntry(runs=runs, random_walk=None),
        }
    )


def test_paths_are_drawn_through_their_checkpoints_with_steps_where_there_is_room() -> None:
    found = chart(report(trajectory()))
    figure = draw(found)
    texts = texts_of(figure)
    assert {"step-0", "1", "2", "3", "7", "base (1 off)", "x", "y"} <= set(texts)
    assert "6" not in texts  # it stands on 7, which is the end of its path
    assert "the principal plane of 7 checkpoints of x and y" in texts
    assert "principal direction 1 (70 % of the variance)" in texts
    (axes,) = (axes for axes in figure.axes if axes.get_title(loc="left"))
    paths = [line for line in axes.lines if len(line.get_xydata()) > 1]  # type: ignore[arg-type]
    assert [path.get_label() for path in paths] == ["x", "y"]
    assert np.asarray(paths[1].get_xdata()) == pytest.approx([-0.9, -0.35, -0.34, -0.33])
    (above,) = figures(found)
    lines = [trace for trace in above["data"] if trace.get("mode") == "lines" and "name" in trace]
    assert [trace["name"] for trace in lines] == ["x", "x", "y", "y"]  # each on paper
    assert above["layout"]["showlegend"]
    (turned,) = figures(Relief(found.panels, found.scale, found.title, found.caption))
    tracks = [t for t in turned["data"] if t.get("mode") == "lines"]
    assert [track["z"] for track in tracks] == [[3.5] * 4] * 2
    pins = [t for t in turned["data"] if t.get("mode") == "lines+text"]
    assert len(pins) == 6  # all but those without a label
    hovered = [t["hovertext"] for t in turned["data"] if t.get("mode") == "markers"]
    assert "step-6 (0.2 off)<br>loss 3.5000" in hovered


def test_what_a_plane_explains_is_told_beside_what_two_directions_always_explain() -> None:
    found = report(trajectory())
    assert isinstance(found.result, LandscapeMeasurements)
    plane, said, caution, far, base = landscape_lines(found.result)
    assert plane.startswith("The principal plane of 7 checkpoints of x and y: 7 x 7 points, loss")
    assert said == "The axes explain 70 % and 20 % of the variance of the checkpoints"
    assert "a random walk in many dimensions has 61 % and 15 %" in caution
    assert far.startswith("The checkpoints lie up to 0.2 off this plane (x/step-0)")
    assert base == "z/base lies 1 off this plane, nearest to (0.3, -0.4)"


@pytest.mark.slow
def test_the_page_is_drawn_in_a_browser(tmp_path: Path, browser: Browser) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    hostile = (mark(HOSTILE, -0.5, 0.0), *THREE[1:])
    (tmp_path / "page.html").write_text(page_of(report(surface(*hostile))), "utf-8")
    browser.complaints()
    browser.show(tmp_path / "page.html", 500)
    WebDriverWait(browser.driver, 60).until(
        lambda page: page.find_elements("css selector", ".gl-container canvas")
    )
    assert not [line for line in browser.complaints() if "SEVERE" in line]
    assert browser.ask("window.hacked") is None
    assert HOSTILE in browser.ask("document.body.innerText")
    assert browser.ask("document.body.scrollWidth <= window.innerWidth")
    browser.show(tmp_path / "page.html", 400, dark=True)
    place = "document.querySelector('.chart')"
    width, height = browser.ask(f"[{place}.clientWidth, {place}.clientHeight]")
    assert 350 < width < height
    assert browser.ask(f"{place}.layout.scene.xaxis.backgroundcolor") == "#1c2125"
    assert "<br>" in browser.ask(f"{place}.layout.scene.yaxis.title.text")
    assert browser.ask("document.body.scrollWidth") <= 400


def test_the_page_of_its_report(tmp_path: Path, browser: Browser) -> None:
    hostile = (mark(HOSTILE, -0.5, 0.0), *THREE[1:])
    found = report(surface(*hostile))
    write_report(found.model_copy(update={"output": str(tmp_path)}), tmp_path)
    browser.complaints()
    browser.show(tmp_path / "report.html", 500)
    assert browser.complaints() == []
    assert browser.ask("window.hacked") is None
    assert browser.ask("document.querySelectorAll('.chart .trace path').length") > 0
    names = browser.ask("[...document.querySelectorAll('.textpoint')].map(x => x.textContent)")
    assert len(names) == 3
    assert "<" in names[0]
    assert (
        browser.ask("document.querySelectorAll('a[href=\"figures/landscape.html\"]').length") == 1
    )
    assert (tmp_path / "figures" / "landscape.html").is_file()
