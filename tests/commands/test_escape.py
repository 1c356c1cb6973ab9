"""geo.escape: what is written, what is refused, what an interruption leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

import mergekit_geo as geo
from benchmarks.kills_commands import TRAIN
from mergekit_geo.cli.app import app
from mergekit_geo.errors import DataError, UnsupportedError
from mergekit_geo.outputs.verify import require_finished
from mergekit_geo.progress import Silent
from mergekit_geo.records.curvature import Stationarity
from mergekit_geo.views.next_step import next_line
from tests.curvature.saddles import linear_data, linear_network, squared_error

FAST = geo.OutputConfig(fsync=False)
QUICK = geo.EscapeConfig(steps=4, save_every=2, lanczos_steps=5, gradient_threshold=1e3)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of one layer, never trained."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder / "tiny")
    model.bfloat16().save_pretrained(folder / "half")
    return folder


def escape(model: object, out: Path | None, **more: Any) -> geo.Result:
    options: dict[str, Any] = {
        "train_data": TRAIN, "data": None, "sharpness": "off", "output": FAST, "escaping": QUICK,
        **more,
    }  # fmt: skip
    return geo.escape(model, out, **options)  # type: ignore[arg-type]


def objective(seed: int) -> geo.FunctionObjective:
    return geo.FunctionObjective(squared_error, [linear_data(seed)])


# --- what is written


@pytest.mark.pictures
@pytest.mark.slow
def test_a_saddle_in_memory_is_left_with_evidence(tmp_path: Path) -> None:
    model, out = linear_network((4, 3, 3)), tmp_path / "out"
    settings = geo.EscapeConfig(steps=8)
    found = escape(model, out, train_data=objective(0), data=objective(0), escaping=settings)
    entry = found.measurements.escape
    assert entry.verdict.kind == "escaped"
    assert not any(weight.any() for weight in model.parameters()), "the caller's own stays"
    state = load_file(out / "model.safetensors")
    assert {name: tensor.dtype for name, tensor in state.items()} == {
        "0.weight": torch.float64, "1.weight": torch.float64,
    }  # fmt: skip
    assert all(tensor.any() for tensor in state.values())
    (difference,) = found.measurements.differences
    assert difference.value == pytest.approx(entry.held_out.value)
    assert found.report.data.half == "report"
    assert found.report.data.examples == entry.held_out_examples < 24
    assert [loss.role for loss in found.measurements.losses] == ["parent", "output"]
    assert "escaped a saddle: training loss fell by" in str(found)
    assert found.report.verdict.word == "better"
    report = json.loads((out / "report.json").read_text())
    assert report["command"] == "escape"
    assert report["settings"]["then"] == "perturbed"
    assert report["result"]["escape"]["verdict"]["kind"] == "escaped"
    assert geo.read_report(out).result == found.measurements
    for name in ("along", "descent", "curvature"):
        assert (out / "figures" / f"{name}.png").stat().st_size > 5000
    card = (out / "README.md").read_text()
    assert "Escaped a saddle" in card
    assert "after geo-merge escape of" in card
    page = (out / "report.html").read_text()
    assert "length along v_min" in page
    kept = escape(model, None, train_data=objective(0), escaping=settings)
    assert kept.out is None
    assert all(torch.equal(kept.state[name], tensor) for name, tensor in state.items())


def test_where_nothing_is_to_leave_the_weights_are_the_model_s_own(
    tiny: Path, tmp_path: Path
) -> None:
    settings = replace(QUICK, gradient_threshold=1e-9)
    found = escape(tiny / "tiny", tmp_path / "out", escaping=settings)
    entry = found.measurements.escape
    assert entry.verdict.kind == "not at a critical point"
    assert entry.after is entry.step is entry.descent is None
    name = "model.safetensors"
    before, after = load_file(tiny / "tiny" / name), load_file(tmp_path / "out" / name)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert Path("escape.json") in require_finished(tmp_path / "out"), "it can be pushed"
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "cache"}


def test_sharpness_of_a_double_module_is_measured_and_tells_the_way_out() -> None:
    model = linear_network((4, 3, 3))
    report = geo.sharpness(model, data=objective(0)).report
    (entry,) = report.result.sharpness
    assert entry.slope.dtype == "float64"
    assert next_line(report) == ""
    saddle = Stationarity(kind="saddle", sentence="a saddle")
    found = entry.model_copy(update={"stationarity": saddle, "model": "runs/a"})
    result = report.result.model_copy(update={"sharpness": [found]})
    report = report.model_copy(update={"result": result})
    assert next_line(report) == "Next: leave the saddle: geo.escape."
    made = report.provenance.model_copy(update={"command": "geo-merge sharpness runs/a"})
    report = report.model_copy(update={"provenance": made})
    assert next_line(report) == (
        "Next: leave the saddle: "
        "geo-merge escape runs/a --train-data TRAINING-DATA -o runs/a-escaped"
    )


# --- interruptions


class Stop(Silent):
    """Interrupts when the descent has gone so far."""

    def __init__(self, left: int) -> None:
        self.left, self.title = left, ""

    def phase(self, title: str, total: int) -> None:
        self.title = title

    def advance(self, count: int) -> None:
        if self.title == "descent":
            self.left -= count
            if self.left <= 0:
                raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    """Killed at any moment by `benchmarks/kills.py`, as all commands are."""
    whole = escape(tiny / "tiny", tmp_path / "whole")
    assert whole.measurements.escape.descent is not None
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        escape(tiny / "tiny", out, progress=Stop(3))
    assert not out.exists()
    assert (tmp_path / "out.partial" / "escape.safetensors").is_file()
    found = escape(tiny / "tiny", out)
    assert found.measurements == whole.measurements
    name = "model.safetensors"
    assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (out / "escape.safetensors").exists()


# --- what is refused


def test_half_precision_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"expected weights in float32 .* found .* in BF16"):
        escape(tiny / "half", tmp_path / "out")
    with pytest.raises(UnsupportedError, match="found --dtype bfloat16"):
        escape(tiny / "tiny", tmp_path / "out", output=replace(FAST, dtype="bfloat16"))
    model = nn.Linear(4, 3, bias=False).half()
    with pytest.raises(UnsupportedError, match="lost in rounding"):
        escape(model, None, train_data=objective(0))
    assert not list(tmp_path.glob("out*"))


def test_no_training_data_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training data"):
        geo.escape(tiny / "tiny", tmp_path / "out", data=None)
    done = CliRunner().invoke(app, ["escape", str(tiny / "tiny"), "-o", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "--train-data" in done.stderr
