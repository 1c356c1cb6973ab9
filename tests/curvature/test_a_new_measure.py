"""A new measure of curvature is its own file, which this one is, and a line in the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import pytest
import torch
from torch.nn import Module
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

import mergekit_geo as geo
from mergekit_geo.curvature.levels import LEVELS
from mergekit_geo.curvature.measure import LocalLoss, Measure
from mergekit_geo.curvature.table import MEASURES, gradients_of
from mergekit_geo.modules.vectors import norm
from mergekit_geo.records import Record
from mergekit_geo.records.curvature import Titled
from mergekit_geo.records.report import Report
from mergekit_geo.views.console import print_report


class NoiseScale(Record):
    """How many batches must be averaged before their gradient is more signal than noise.

    Attributes:
        value: tr(Σ) / |g|^2, the simple noise scale of McCandlish (2018), in batches.
        batches: How many it is found on.
    """

    value: Annotated[float, Titled("noise scale")]
    batches: int


def noise_scale(at: LocalLoss) -> NoiseScale:
    """From the squared norms of single batches' gradients and of all batches' (appendix A.1)."""
    count = len(at.loss.batches)
    norms = [norm(at.loss.part(i, count).gradient()[1]) ** 2 for i in range(count)]
    single, whole = sum(norms) / count, at.gradients.norm**2
    signal = (count * whole - single) / (count - 1)
    return NoiseScale(value=(single - whole) / (1 - 1 / count) / signal, batches=count)


NOISE_SCALE = Measure("noise_scale", noise_scale, NoiseScale, cost=lambda level: 1.0)


@pytest.fixture(autouse=True)
def _measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(MEASURES, NOISE_SCALE.key, NOISE_SCALE)


def test_it_is_measured_kept_and_shown(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, out = tmp_path / "text.txt", tmp_path / "out"
    text.write_text("\n\n".join(f"The value of item {i} is {i * i}." for i in range(12)))
    data = geo.EvalData(str(text))
    found = geo.sharpness([small / "a", small / "b"], out, data=data)
    assert found.measurements.sharpness[0].noise_scale.batches == 6

    written = json.loads((out / "report.json").read_text())
    values = [entry["noise_scale"]["value"] for entry in written["result"]["sharpness"]]
    assert values[0] == pytest.approx(dense(small / "a", text), rel=1e-3)
    read = Report.model_validate(written).result.sharpness
    assert [entry.noise_scale.value for entry in read] == values

    shown = f"{values[0]:.4g}"
    print_report(found.report)
    page = (out / "report.html").read_text()
    for place in (capsys.readouterr().out, page):
        assert "noise scale" in place
        assert shown in place

    again = geo.sharpness([small / "a", small / "b"], data=data).measurements.sharpness
    assert [entry.gradients for entry in again] == [0, 0], "what was measured is kept"
    assert [entry.noise_scale.value for entry in again] == values


def dense(folder: Path, text: Path) -> float:
    """tr(Σ) / |g|^2 of batches of two, longest first, by autograd alone."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [torch.tensor(tokenizer(line)["input_ids"]) for line in text.read_text().split("\n\n")]
    rows.sort(key=len, reverse=True)
    pairs = [rows[i : i + 2] for i in range(0, len(rows), 2)]
    slopes = torch.stack([slope(model, pair) for pair in pairs]).double()
    weights = torch.tensor([sum(len(row) - 1 for row in pair) for pair in pairs]).double()
    mean = (weights @ slopes) / weights.sum()
    single, whole = slopes.square().sum(dim=1).mean(), mean.square().sum()
    count = len(pairs)
    return float((single - whole) / (1 - 1 / count) / ((count * whole - single) / (count - 1)))


def slope(model: Module, rows: list[torch.Tensor]) -> torch.Tensor:
    """Gradient of the mean loss of some rows."""
    sums = [
        cross_entropy(model(row[None]).logits[0, :-1], row[1:], reduction="sum") for row in rows
    ]
    mean = sum(sums) / sum(len(row) - 1 for row in rows)
    parts = torch.autograd.grad(mean, [p for p in model.parameters() if p.requires_grad])
    return torch.cat([part.flatten() for part in parts])


def test_its_cost_is_told_in_advance(monkeypatch: pytest.MonkeyPatch) -> None:
    most = gradients_of(LEVELS["quick"])
    monkeypatch.delitem(MEASURES, NOISE_SCALE.key)
    assert most == gradients_of(LEVELS["quick"]) + 1
