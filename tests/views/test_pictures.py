"""What pictures show is what was measured, and can be told apart by everybody."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.landscape import ScaleEntry
from mergekit_geo.records.losses import DataEntry, Estimate
from mergekit_geo.records.model import Geometry, LayerGeometry, PairGeometry
from mergekit_geo.views import chart
from mergekit_geo.views import style as styles
from mergekit_geo.views.barrier import curves
from mergekit_geo.views.geometry import geometry_picture
from mergekit_geo.views.losses import loss_unit
from mergekit_geo.views.matplotlib_.draw import draw
from mergekit_geo.views.matplotlib_.figure import DASHES, MARKERS
from mergekit_geo.views.plotly_.figures import figures
from mergekit_geo.views.why import parted_by

Floats = NDArray[np.float64]
DATA = DataEntry(
    source="x.jsonl", digest="", documents=9, examples=9, available=9, tokens=9, seq_len=9, seed=0
)
DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]
PROTANOPIA = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]
"""Machado 2009, severity 1, of linear RGB."""
XYZ = np.array([
    [0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
])  # fmt: skip


def linear(colour: str) -> Floats:
    """(3,) linear RGB of a colour in sRGB."""
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: Floats) -> Floats:
    """(3,) CIELAB of linear RGB, under D65."""
    x, y, z = np.cbrt(XYZ @ np.clip(rgb, 1e-3, 1) / [0.95047, 1, 1.08883])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen_by", [np.eye(3), DEUTERANOPIA, PROTANOPIA], ids=["", "deu", "pro"])
def test_colours_can_be_told_apart_by_everybody(seen_by: Any) -> None:
    """A just noticeable difference is about 2.3."""
    seen = [lab(np.array(seen_by) @ linear(colour)) for colour in (*styles.COLOURS, styles.OUTPUT)]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 15


@pytest.mark.parametrize("paper", ["#ffffff", "#14171a"])
def test_colours_stand_out_from_light_and_dark_paper(paper: str) -> None:
    for colour in (*styles.COLOURS, styles.OUTPUT):
        low, high = sorted((XYZ @ linear(one))[1] for one in (colour, paper))
        assert (high + 0.05) / (low + 0.05) > 2


def test_neighbours_differ_in_colour_and_marker_and_dash() -> None:
    for count in (2, 5):
        drawn = [styles.style(i) for i in range(count)]
        for kind in ("colour", "marker", "dash"):
            assert len({getattr(one, kind) for one in drawn}) == count
    assert len({styles.style(i) for i in range(30)}) == 30
    found = {style.marker for style in styles.FOUND.values()}
    assert set(MARKERS) == {*styles.MARKERS, *found, "star"}
    assert len(found) == len(styles.FOUND)
    assert set(DASHES) == set(styles.DASHES)
    assert list(chart.HEAT) == sorted(chart.HEAT, key=lambda shade: -(XYZ @ linear(shade))[1])


def path(ts: list[float], losses: list[float | None], **changes: Any) -> BarrierEntry:
    """A path whose highest point above the chord is at 0.5."""
    rise = Estimate(value=0.7, low=0.5, high=0.9)
    entry = BarrierEntry(
        first="x/a", second="x/b", along="linear", t=ts, loss=losses, metric=None, barrier=rise,
        barrier_mean=rise, error_barrier=None, t_max=0.5, path_max=2, path_mean=2,
        significant=True, verdict="", documents=6,
    )  # fmt: skip
    return entry.model_copy(update=changes)


SEVEN = path([i / 6 for i in range(7)], [1.0, 1.2, 1.7, 2.2, 2.1, 2.0, 2.0])


def test_a_barrier_is_a_bracket_from_the_chord_to_the_curve() -> None:
    picture = curves([SEVEN], DATA)
    (gap,) = [line.gap for line in picture.curves if line.gap]
    assert (gap.x, gap.foot, gap.height, gap.label) == (0.5, 1.5, 0.7, "barrier 0.7 at t = 0.50")
    assert gap.foot + gap.height == SEVEN.loss[3]
    (figure,) = figures(picture)
    assert any(trace["y"] == [1.5, 2.2] for trace in figure["data"])
    assert figure["layout"]["xaxis"]["title"]["text"] == "t (0 = a, 1 = b)"
    assert figure["layout"]["yaxis"]["title"]["text"] == "loss (nats per token)"
    assert "6 documents, the report half" in picture.caption


def test_what_is_not_significant_has_no_bracket() -> None:
    low = Estimate(value=-0.1, low=-0.3, high=0.1)
    assert curves([SEVEN.model_copy(update={"significant": False})], DATA).curves[0].gap is None
    none = SEVEN.model_copy(update={"significant": False, "dip": low, "t_dip": 0.3})
    assert curves([none], DATA).curves[0].gap is None
    dip = none.model_copy(update={"dip": Estimate(value=-0.2, low=-0.3, high=-0.1)})
    gap = curves([dip], DATA).curves[0].gap
    assert gap is not None
    assert (gap.height, gap.label) == (-0.2, "dip 0.2 at t = 0.30")


def test_brackets_at_one_place_stand_side_by_side() -> None:
    lines = curves([SEVEN, SEVEN.model_copy(update={"second": "x/c"})], DATA).curves
    places = [line.gap.x for line in lines if line.gap]
    assert sum(places) / 2 == pytest.approx(0.5)
    assert places[0] < places[1] < places[0] + 0.03
    assert [line.gap.left for line in lines if line.gap] == [True, False]


def test_a_few_points_are_not_joined() -> None:
    few = path([0, 0.25, 0.5, 0.75, 1], [1.0, 1.2, 2.2, 2.0, 2.0])
    for entry, joined in ((few, False), (SEVEN, True)):
        picture = curves([entry], DATA)
        assert picture.curves[0].is_traced is joined
        assert ("too few points" in picture.caption) is not joined
        assert ("lines" in figures(picture)[0]["data"][0]["mode"]) is joined
        drawn = draw(picture).axes[0].lines[0]
        assert (drawn.get_linestyle() not in {"None", ""}) is joined


def test_the_output_looks_alike_everywhere() -> None:
    picture = curves([SEVEN.model_copy(update={"taken": 0.5})], DATA)
    stars = [t for t in figures(picture)[0]["data"] if t.get("name") == "output"]
    assert [(s["x"], s["y"], s["marker"]["color"]) for s in stars] == [
        ([0.5], [2.2], styles.OUTPUT)
    ]
    drawn = [line for line in draw(picture).axes[0].lines if line.get_label() == "output"]
    assert [to_hex(str(line.get_color())) for line in drawn] == [styles.OUTPUT]
    panel = chart.Panel("loss", [chart.Dot(1.0), chart.Dot(2.0, 1.5, 2.5)])
    dots = chart.Dots(["a", "output"], [False, True], [panel])
    colours = [trace["marker"]["color"] for trace in figures(dots)[0]["data"]]
    assert colours == [styles.COLOURS[0], styles.OUTPUT]
    assert [to_hex(str(line.get_color())) for line in draw(dots).axes[0].lines] == colours


def test_both_coordinates_of_a_plane_have_one_scale() -> None:
    for tall, to_scale in ((1.0, True), (9.0, False)):
        y = [0.0, tall]
        surface = chart.HeightMap("", "x", "y", [0.0, 1.0], y, [[1.0, 2.0], [3.0, 2.0]], [])
        maps = chart.HeightMaps([surface], ScaleEntry(low=1, high=3, log=False), "loss", "")
        axis = figures(maps)[0]["layout"]["yaxis"]
        assert (axis.get("scaleanchor") == "x" and axis["scaleratio"] == 1) is to_scale
        assert (draw(maps).axes[0].get_aspect() == 1.0) is to_scale


def test_a_matrix_has_its_numbers_in_it_and_zero_is_light() -> None:
    (figure,) = figures(chart.Heatmap("barrier", ["a", "b"], ["a", "b"], [[None, 2], [0.5, None]]))
    (trace,) = figure["data"]
    assert (trace["zmin"], trace["zmax"]) == (0, 2)
    assert trace["colorscale"][0] == [0, chart.HEAT[0]]
    assert trace["text"] == [["", "2"], ["0.5", ""]]


def geometry(vectors: Floats) -> Geometry:
    """Of (models, n) vectors as one layer."""
    norms = np.linalg.norm(vectors, axis=1)
    pairs = [
        PairGeometry(
            first=i, second=j, cosine=float(vectors[i] @ vectors[j] / norms[i] / norms[j]),
            angle=None, distance=float(np.linalg.norm(vectors[i] - vectors[j])),
        )
        for i, j in combinations(range(len(vectors)), 2)
    ]  # fmt: skip
    layer = LayerGeometry(layer="x", parameters=9, norms=norms.tolist(), pairs=pairs)
    return Geometry(total=layer, layers=[layer])


def test_task_vectors_are_compared_where_a_base_is_known() -> None:
    vectors = np.random.default_rng(0).normal(size=(4, 50)) * 0.01 + np.linspace(1, 2, 50)
    names = ["b", "x", "y", "z"]
    found = geometry_picture(geometry(vectors), names, 0)
    tasks = vectors[1:] - vectors[0]
    norms = np.linalg.norm(tasks, axis=1)
    cosines = [tasks[i] @ tasks[j] / norms[i] / norms[j] for i, j in combinations(range(3), 2)]
    assert found.columns == ["x · y", "x · z", "y · z"]
    assert found.values[0] == pytest.approx(cosines, abs=1e-8)
    without = geometry_picture(geometry(vectors), names, None)
    assert without.log
    first = np.linalg.norm(vectors[0] - vectors[1]) / np.linalg.norm(vectors[:2], axis=1).mean()
    assert without.values[0][0] == pytest.approx(first)


def test_the_unit_of_the_loss_is_the_tasks() -> None:
    regression = DATA.model_copy(update={"task": "sequence-classification", "metric": ""})
    classes = regression.model_copy(update={"metric": "accuracy", "unit": "example"})
    assert [loss_unit(data) for data in (DATA, regression, classes)] == [
        "nats per token", "squared error", "nats per example",
    ]  # fmt: skip


def test_layers_that_part_models_are_named() -> None:
    pair = geometry(np.array([[1.0, 0.0], [0.01, 1.0]])).total
    alike = geometry(np.array([[1.0, 0.0], [1.0, 0.01]])).total
    layers = [alike.model_copy(update={"layer": f"layer.{i}"}) for i in range(3)]
    head = pair.model_copy(update={"layer": "classifier"})
    text = parted_by(Geometry(total=alike, layers=[*layers, head]))
    assert text == (
        "Cosine of the parents: 0.01 in classifier, 1.000 in the other 3 (median): the head was "
        "initialised separately."
    )
    middle = pair.model_copy(update={"layer": "layer.7"})
    assert parted_by(Geometry(total=alike, layers=[*layers, middle])).endswith(
        "0.01 in layer.7, 1.000 in the other 3 (median): were these layers initialised separately?"
    )
    assert parted_by(Geometry(total=alike, layers=layers)) == ""
    assert parted_by(Geometry(total=pair, layers=[head] * 3)) == (
        "Cosine of the parents: 0.01 in the median layer: they were initialised separately, or "
        "have long gone separate ways."
    )
    assert parted_by(None) == ""
    three = geometry(np.array([[1.0, 0.0], [1.0, 0.01], [0.01, 1.0]])).total
    assert parted_by(Geometry(total=three, layers=[three] * 3), "abc").startswith(
        "Cosine of a and c: 0.01 in the median layer"
    )


def test_bars_stand_side_by_side_with_labels_beyond_their_intervals() -> None:
    """In both back ends: two series in three rows, one of which has a bar of one series only."""
    bars = [
        [chart.Dot(2.0, 1.0, 3.0), chart.Dot(-1.0, -1.5, -0.5), chart.Dot(0.5)],
        [chart.Dot(1.0, 0.5, 1.5), None, chart.Dot(0.0, -0.1, 0.1)],
    ]
    labels = [["70 %", "-35 %", ""], ["35 %", "", "0 %"]]
    picture = chart.Bars(["x", "y", "z"], ["in", "out"], [chart.BarPanel("rise", bars, labels)])
    (figure,) = figures(picture)
    drawn = {trace["name"]: trace for trace in figure["data"] if trace["type"] == "bar"}
    assert (drawn["in"]["x"], drawn["out"]["y"]) == ([2.0, -1.0, 0.5], [0, 2])
    assert drawn["in"]["offset"] + drawn["in"]["width"] <= drawn["out"]["offset"]
    texts = [trace for trace in figure["data"] if trace["type"] == "scatter"]
    assert [trace["x"] for trace in texts] == [[3.0, -1.5, 0.5], [1.5, 0.1]]
    (axes,) = draw(picture).axes
    assert [round(bar.get_width(), 9) for bar in axes.patches] == [2.0, -1.0, 0.5, 1.0, 0.0]
    assert [text.get_text() for text in axes.texts if text.get_text()] == [
        "70 %", "-35 %", "35 %", "0 %"
    ]  # fmt: skip
    assert picture.numbers()[1][1] == ["y", "-1 [-1.5, -0.5]", ""]
