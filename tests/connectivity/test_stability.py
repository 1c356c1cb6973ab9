"""From when on a training stays in the basin of its end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mergekit_geo as geo
from mergekit_geo.checkpoints.runs import Run
from mergekit_geo.connectivity.stability import pairs_of_run, stability
from mergekit_geo.errors import ArgumentError, NotFoundError
from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.losses import Estimate
from mergekit_geo.records.report import Report
from tests.commands.test_barrier import Point, wells
from tests.commands.test_landscape import invoke

NAMES = ("a", "b", "c", "d")
RUN = Run("run", (0, 1, 2, 3), (10, 20, 30, 40))


def entry(value: float, half: float) -> BarrierEntry:
    """A path of loss 1 to 1 with a barrier, and half the width of its interval."""
    found = Estimate(value=value, low=value - half, high=value + half, detectable=1.4 * half)
    return BarrierEntry(
        first="", second="", along="linear", t=[0, 1], loss=[1, 1], metric=None, barrier=found,
        barrier_mean=found, error_barrier=None, t_max=0.5, path_max=1, path_mean=1,
        significant=found.low is not None and found.low > 0, verdict="", threshold=0.02,
    )  # fmt: skip


NONE, SMALL, WALL, UNKNOWN = entry(0.0, 0.01), entry(0.01, 0.005), entry(0.5, 0.1), entry(0.1, 0.2)


@pytest.mark.parametrize(
    ("found", "no_barrier", "one_basin"),
    [  # a-b, b-c, c-d, a-d, b-d
        ([NONE, NONE, NONE, NONE, NONE], "a", "a"),
        ([WALL, NONE, NONE, NONE, NONE], "b", "b"),
        ([NONE, NONE, NONE, WALL, NONE], "b", "b"),
        ([NONE, NONE, NONE, NONE, WALL], "c", "c"),
        ([NONE, SMALL, NONE, NONE, NONE], "c", "a"),
        ([NONE, UNKNOWN, NONE, NONE, NONE], "a", "c"),
        ([NONE, NONE, WALL, NONE, NONE], None, None),
    ],
)
def test_the_first_checkpoint_from_which_on_nothing_parts(
    found: list[BarrierEntry], no_barrier: str | None, one_basin: str | None
) -> None:
    told = stability(RUN, NAMES, found)
    assert (told.no_barrier_from, told.one_basin_from) == (no_barrier, one_basin)
    assert told.steps == [10, 20, 30, 40]
    twice = stability(RUN, NAMES, [one for path in found for one in (path, WALL)], kinds=2)
    assert twice.no_barrier_from == no_barrier
    pairs = pairs_of_run(4)
    assert [pairs[i] for i in told.to_next] == [(0, 1), (1, 2), (2, 3)]
    assert [pairs[i] for i in told.to_last] == [(0, 3), (1, 3), (2, 3)]
    assert [pairs[i // 2] for i in twice.to_last] == [(0, 3), (1, 3), (2, 3)]


def test_a_training_that_changes_wells(tmp_path: Path) -> None:
    """Its end is at 1; from 0.9 on it is in that well."""
    places = [-1.3, -1.0, 0.9, 1.1, 1.0]
    out = tmp_path / "out"
    found = geo.barrier(checkpoints=[Point(place) for place in places], out=out, data=wells())
    told = found.measurements.stability
    names = [entry.model for entry in found.measurements.losses]
    assert told.no_barrier_from == names[2]
    assert told.one_basin_from == names[2]
    pairs = [(names.index(one.first), names.index(one.second)) for one in found.measurements.pairs]
    assert pairs == pairs_of_run(5)
    assert [one.barrier.value > 1 for one in found.measurements.pairs] == [
        False, True, False, False, True, True, False
    ]  # fmt: skip
    matrix = found.measurements.matrix
    assert matrix[0][2] is None  # not measured
    assert matrix[1][4] > 1
    assert found.measurements.basins == [[names[2], names[3], names[4]], [names[0], names[1]]]
    first, second, highest = str(found).splitlines()[:3]
    assert first.startswith(f"From {names[2]} on no path to the next checkpoint or to the last one")
    assert second.endswith("every barrier is below 2 % of the loss: one basin.")
    assert highest.startswith(f"The highest is from {names[1]} to {names[4]}: a barrier of")
    assert Report.model_validate_json((out / "report.json").read_text()) == found.report
    assert (out / "figures" / "barrier.csv").is_file()
    assert "From checkpoint to checkpoint" in (out / "report.html").read_text()


def test_no_barrier_from_the_start_on_is_told_with_its_caution() -> None:
    found = geo.barrier(checkpoints=[Point(1.5), Point(1.2), Point(1.0)], data=wells())
    assert "two runs which part there end in one basin (Frankle 2020) does not follow" in str(found)


def test_each_set_has_its_own() -> None:
    def bowl(model: nn.Module, scale: Tensor) -> Tensor:
        assert isinstance(model, Point)
        return 1 + scale * (model.w - 1).square()

    scale = torch.rand(60, generator=torch.Generator().manual_seed(1)) + 0.5
    data = {"wells": wells(), "bowl": geo.FunctionObjective(bowl, list(scale.split(30)))}
    found = geo.barrier(checkpoints=[Point(x) for x in (-1.0, 0.9, 1.1)], data=data)
    sets = found.measurements.sets
    names = [entry.model for entry in found.measurements.losses]
    assert sets["wells"].stability.no_barrier_from == names[1]
    assert sets["bowl"].stability.no_barrier_from == names[0]
    lines = str(found).splitlines()
    assert lines[0].startswith(f"wells: From {names[1]} on no path")
    assert any(line.startswith(f"bowl: From {names[0]} on no path") for line in lines)


def test_checkpoints_of_trainer_on_the_command_line(
    training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(training)
    words = ["barrier", "--checkpoints", "run/checkpoint-20", "run/checkpoint-12", "start"]
    words += ["--points", 3, "--max-examples", 60, "--seq-len", 16, "--json"]
    code, stdout, stderr = invoke(*words)
    assert code == 0, stderr
    found = json.loads(stdout)["result"]
    assert found["stability"]["steps"] == [12, 20, None]
    ends = [(pair["first"], pair["second"]) for pair in found["pairs"]]
    assert ends[0] == ("run/checkpoint-12", "run/checkpoint-20")


def test_requests_that_cannot_be_met(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(training)
    a, b = Point(1.0), Point(2.0)
    with pytest.raises(ArgumentError, match="a training needs at least 3 checkpoints, found 2"):
        geo.barrier(checkpoints=[a, b], data=wells())
    with pytest.raises(ArgumentError, match=r"model 1 .* and model 3 .* are equal: nothing lies b"):
        geo.barrier(checkpoints=[a, b, a], data=wells())
    with pytest.raises(ArgumentError, match="start: expected either models or --checkpoints, foun"):
        geo.barrier(["start"], checkpoints="run/checkpoint-*")
    with pytest.raises(ArgumentError, match="--by-layer moves layers between two models, and --ch"):
        geo.barrier(checkpoints="run/checkpoint-*", by_layer=True)
    with pytest.raises(NotFoundError, match=r"run/step-\*: no folder and no .safetensors file mat"):
        geo.barrier(checkpoints="run/step-*")
    with pytest.raises(ArgumentError, match="checkpoints of one training, found 2: x, y"):
        geo.barrier(checkpoints=["x/step-1", "x/step-2", "y/step-1", "y/step-2"])
    code, _, stderr = invoke("barrier")
    assert code == 2
    assert "missing argument 'MODEL...', or --checkpoints" in stderr
