"""Barriers, paths, sharpness and landscapes on several evaluation sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mergekit_geo.records.barrier import BarrierEntry, BarrierMeasurements, BarrierSetEntry
from mergekit_geo.records.landscape import LandscapeMeasurements, LandscapeSetEntry, ScaleEntry
from mergekit_geo.records.losses import Estimate
from mergekit_geo.records.model import ModelEntry
from mergekit_geo.records.path import PathMeasurements, PathSetEntry
from mergekit_geo.records.report import Report
from mergekit_geo.views.block import Section, Table, charts
from mergekit_geo.views.files import write_figures
from mergekit_geo.views.next_step import next_line
from mergekit_geo.views.view import view_of
from tests.views.set_reports import one_set, report_on
from tests.views.test_landscape import mark, surface

MODELS = [ModelEntry(name=name, revision=None, parameters=1) for name in ("a", "b")]
CODE, CHAT = one_set((0.0, 0.1)), one_set((0.1, 0.02))


def path(value: float, along: str = "linear") -> BarrierEntry:
    """A path between models of loss 2."""
    rise = Estimate(value=value, low=value - 0.01, high=value + 0.01, detectable=0.01)
    return BarrierEntry(
        first="a", second="b", along=along, t=[0, 0.5, 1], loss=[2, 2 + value, 2], metric=None,
        barrier=rise, barrier_mean=rise, error_barrier=None, t_max=0.5, path_max=3, path_mean=2,
        significant=value > 0.01, verdict=f"a barrier of {value}", threshold=0.04, documents=9,
    )  # fmt: skip


def shared(found: Any) -> dict[str, Any]:
    return {"data": found.data, "losses": found.losses[:2]}


def report(command: str, result: Any) -> Report:
    return Report(command=command, models=MODELS, data=CODE.data, result=result)


def test_barriers_of_every_set_are_told_and_drawn(tmp_path: Path) -> None:
    pairs = {"code": [path(0.0)], "chat": [path(0.7)]}
    common: dict[str, Any] = {
        "matrix": [[0, 0], [0, 0]],
        "basins": [["a"], ["b"]],
        "threshold": 0.04,
    }
    sets = {
        name: BarrierSetEntry(pairs=pairs[name], **common, **shared(one))
        for name, one in (("code", CODE), ("chat", CHAT))
    }
    first = {"pairs": pairs["code"], "losses": CODE.losses[:2], **common}
    found = report("barrier", BarrierMeasurements(**first, sets=sets))
    view = view_of(found)
    assert view.headline == ["code: a to b, linear: a barrier of 0.0.",
                             "chat: a to b, linear: a barrier of 0.7."]  # fmt: skip
    models, _, paths = view.blocks[:3]
    assert isinstance(models, Section)
    assert isinstance(paths, Section)
    (losses,) = [block for block in models.blocks if isinstance(block, Table)]
    assert losses.head == ["loss per token", "code ↓", "chat ↓"]
    table = paths.blocks[0]
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["code", "chat"]
    write_figures(view, tmp_path / "figures")
    names = {"barrier-code.csv", "barrier-chat.csv", "barrier-code.png", "barrier-chat.png"}
    assert names <= {file.name for file in (tmp_path / "figures").iterdir()}
    assert next_line(found).startswith("Next: look for a way around the barrier")


def test_a_path_is_told_by_set() -> None:
    ways = {"straight": path(0.7), "fitted": path(0.0, "bezier"), "removed": 1.0, "saddle": None}
    sets = {
        "code": PathSetEntry(**ways, **shared(CODE)),
        "chat": PathSetEntry(**{**ways, "fitted": path(0.3, "bezier")}, **shared(CHAT)),
    }
    result = PathMeasurements(
        kind="bezier", bends=1, steps=9, seed=0, history=[(1, 2.0)], length_ratio=1.2,
        lowest_t=0.4, losses=CODE.losses[:2], **ways, sets=sets,
    )  # fmt: skip
    view = view_of(report("path", result))
    assert view.headline[0] == "A path was fitted: bezier, one control point, 9 steps."
    assert (
        "chat: On the fitted path: a barrier of 0.3. On the straight line: a " in view.headline[3]
    )
    assert [chart.name for chart in charts(view.blocks)] == ["barrier-code", "barrier-chat"]
    assert view.next == "Next: fit for more --steps, or with more --bends: a barrier is left."


def test_a_landscape_has_a_sheet_for_each_set() -> None:
    sheet = surface(mark("a", -1, 0), mark("b", 1, 0), mark("c", 0, 1))
    scale = ScaleEntry(low=3.0, high=5.0, log=False)
    sets = {
        name: LandscapeSetEntry(surfaces=[sheet], scale=scale, **shared(one))
        for name, one in (("code", CODE), ("chat", CHAT))
    }
    result = LandscapeMeasurements(surfaces=[sheet], scale=scale, losses=[], sets=sets)
    view = view_of(report("landscape", result))
    assert [block.title for block in view.blocks if isinstance(block, Section)] == [
        "Models", "Planes: code", "Planes: chat",
    ]  # fmt: skip
    assert [chart.name for chart in charts(view.blocks)] == ["landscape-code", "landscape-chat"]
    assert set(view.files) == {"landscape-code.npz", "landscape-chat.npz", "landscape.html"}
    page = view.files["landscape.html"]().decode()
    assert "Planes: code" in page
    assert "Planes: chat" in page


def test_barriers_of_parents_are_told_where_they_stand() -> None:
    """On the set where one stands; where none does on any, in one sentence."""
    sets = {"code": CODE, "chat": CHAT.model_copy(update={"barriers": [path(0.7)]})}
    names = {"demo/prose": "a", "demo/code": "b"}
    found = report_on({k: one.model_copy(update={"barriers": one.barriers or [path(0.0)]})
                       for k, one in sets.items()})  # fmt: skip
    models = [m.model_copy(update={"name": names[m.name]}) for m in found.models]
    found = found.model_copy(update={"models": models})
    told = view_of(found).headline
    assert "On chat: a to b: a barrier of 0.7." in told
    assert not any("code: " in line for line in told)
    assert view_of(found).next.startswith("Next: look for a way around the barrier")
    none = {name: one.model_copy(update={"barriers": [path(0.0)]}) for name, one in sets.items()}
    flat = report_on(none).model_copy(update={"models": models})
    assert (
        "No significant barrier stands between the parents on any set: they lie in one basin."
        in (view_of(flat).headline)
    )
