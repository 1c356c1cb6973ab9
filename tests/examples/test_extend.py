"""What is added to the package in one file and one line, as examples/extend shows it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.cli.commands import command_of
from mergekit_geo.cli.parsing import Command
from mergekit_geo.curvature.levels import LEVELS
from mergekit_geo.curvature.table import MEASURES, gradients_of
from mergekit_geo.errors import NotFoundError
from mergekit_geo.merging.method_help import listing, options
from mergekit_geo.merging.methods import METHODS, rule_of
from mergekit_geo.records.report import Report
from mergekit_geo.specs.spec import command_line
from mergekit_geo.specs.table import COMMANDS, spec_of
from mergekit_geo.tasks.table import TASKS
from mergekit_geo.views.console import print_report
from tests.conftest import ROOT

FAST = geo.OutputConfig(fsync=False)
STATES = {
    name: {"w": torch.randn(6, 8, generator=torch.Generator().manual_seed(seed))}
    for seed, name in enumerate(("base", "a", "b"))
}


def extended(
    name: str, table: dict[str, Any], key: str, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """Import a file of examples/extend; its line in the table is gone after the test."""
    monkeypatch.setitem(table, key, None)
    monkeypatch.delitem(sys.modules, f"examples.extend.{name}", raising=False)
    return import_module(f"examples.extend.{name}")


def merged(method: str, **parameters: float) -> Tensor:
    """By a recipe, of models in memory."""
    recipe = {
        "merge_method": method, "base_model": "base", "parameters": parameters,
        "models": [{"model": "a"}, {"model": "b"}],
    }  # fmt: skip
    found = geo.run(recipe, models=STATES, data=None)
    assert found.state is not None
    return found.state["w"]


def vectors() -> list[Tensor]:
    return [STATES[name]["w"] - STATES["base"]["w"] for name in ("a", "b")]


def test_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    extended("method", METHODS, "equal_lengths", monkeypatch)
    lengths = [vector.norm() for vector in vectors()]
    scaled = [v * torch.stack(lengths).mean() / v.norm() for v in vectors()]
    expected = STATES["base"]["w"] + 0.75 * scaled[0] + 0.25 * scaled[1]
    rule = rule_of("equal_lengths", 3, 0, weights=[3, 1])
    assert rule.weights == (0.0, 0.75, 0.25)
    recipe = {
        "merge_method": "equal_lengths", "base_model": "base",
        "models": [{"model": name, "parameters": {"weight": weight}}
                   for name, weight in (("a", 3), ("b", 1))],
    }  # fmt: skip
    found = geo.run(recipe, models=STATES, data=None).state
    assert found is not None
    torch.testing.assert_close(found["w"], expected, rtol=1e-6, atol=1e-6)
    assert "equal_lengths" in {name for name, *_ in listing()}


def test_a_task_vector_of_zero_stays_out(monkeypatch: pytest.MonkeyPatch) -> None:
    extended("method", METHODS, "equal_lengths", monkeypatch)
    same = {**STATES, "b": STATES["base"]}
    recipe = {
        "merge_method": "equal_lengths", "base_model": "base", "parameters": {"weight": 1.0},
        "models": [{"model": "a"}, {"model": "b"}],
    }  # fmt: skip
    found = geo.run(recipe, models=same, data=None).state
    assert found is not None
    torch.testing.assert_close(found["w"], STATES["base"]["w"] + vectors()[0] / 4)


def test_a_sparsifier(monkeypatch: pytest.MonkeyPatch) -> None:
    extended("sparsifier", METHODS, "smallest", monkeypatch)
    kept = [v * (v.abs() < v.abs().flatten().sort().values[24]) for v in vectors()]
    found = merged("smallest", weight=1.0, density=0.5)
    torch.testing.assert_close(found, STATES["base"]["w"] + sum(kept), rtol=1e-6, atol=1e-6)
    assert {each.keyword for each in METHODS["smallest"].parameters} <= options().keys()


def test_a_task(small: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extended("task", TASKS, "bits-lm", monkeypatch)
    models = [small / "a", small / "b"]

    def losses(task: str) -> list[float]:
        data = geo.EvalData(str(text), task=task)
        found = geo.barrier(models, points=3, data=data).measurements.losses
        return [entry.loss for entry in found]

    nats, bits = torch.tensor(losses("causal-lm")), torch.tensor(losses("bits-lm"))
    torch.testing.assert_close(bits.exp2(), nats.exp())


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A dozen short documents."""
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(f"The value of item {i} is {i * i}." for i in range(12)))
    return path


@pytest.mark.slow
def test_a_measure(
    small: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """It is measured, kept and shown."""
    most = gradients_of(LEVELS["quick"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    extended("measure", MEASURES, "noise_scale", monkeypatch)
    assert gradients_of(LEVELS["quick"]) == most + 1
    data, out = geo.EvalData(str(text)), tmp_path / "out"
    found = geo.sharpness([small / "a", small / "b"], out, data=data)
    assert found.measurements.sharpness[0].noise_scale.batches == 6

    written = json.loads((out / "report.json").read_text())
    values = [entry["noise_scale"]["value"] for entry in written["result"]["sharpness"]]
    assert values[0] == pytest.approx(dense(small / "a", text), rel=1e-3)
    read = Report.model_validate(written).result.sharpness  # type: ignore[union-attr]
    assert [entry.noise_scale.value for entry in read] == values

    print_report(found.report)
    for place in (capsys.readouterr().out, (out / "report.html").read_text()):
        assert "noise scale" in place
        assert f"{values[0]:.4g}" in place

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


def slope(model: Module, rows: list[Tensor]) -> Tensor:
    """Gradient of the mean loss of some rows."""
    sums = [
        cross_entropy(model(row[None]).logits[0, :-1], row[1:], reduction="sum") for row in rows
    ]
    mean = sum(sums) / sum(len(row) - 1 for row in rows)
    parts = torch.autograd.grad(mean, [p for p in model.parameters() if p.requires_grad])  # type: ignore[arg-type]
    return torch.cat([part.flatten() for part in parts])


@pytest.fixture
def training(small: Path, tmp_path: Path) -> Path:
    """What a Trainer leaves behind; by their names alone, 100 would come before 20."""
    folder = tmp_path / "runs"
    folder.mkdir()
    for at, name in zip((3, 20, 100), "abc", strict=True):
        (folder / f"checkpoint-{at}").symlink_to(small / name)
    return folder


def test_a_command_from_python(
    training: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extension = extended("command", COMMANDS, "latest", monkeypatch)
    assert spec_of("latest") is extension.LatestSpec
    found = extension.latest(training, tmp_path / "out", count=2, output=FAST, data=None)
    assert found.report.command == "latest"
    assert found.report.settings["count"] == 2
    b, c, out = (
        load_file(at / "model.safetensors") for at in (small / "b", small / "c", found.out)
    )
    for name, tensor in out.items():
        torch.testing.assert_close(tensor, (b[name] + c[name]) / 2)
    line = command_line(extension.LatestSpec("runs", "out", count=2))
    assert line == "geo-merge latest runs -o out --count=2"
    with pytest.raises(NotFoundError, match="expected folders checkpoint-STEP"):
        extension.latest(tmp_path / "out")


def test_a_command_from_the_shell(
    training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extension = extended("command", COMMANDS, "latest", monkeypatch)
    app = typer.Typer()
    app.command(name="latest", cls=Command)(command_of(extension.LatestSpec, "Average."))
    out = tmp_path / "out"
    done = CliRunner().invoke(app, [str(training), "-o", str(out), "--no-eval", "--no-fsync"])
    assert done.exit_code == 0, done.output
    assert len(geo.read_report(out).models) == 3
    wrong = CliRunner().invoke(app, [str(training), "-o", str(out), "--count=0"])
    assert "count must be at least 1, found 0" in wrong.stderr
    assert "How many checkpoints" in CliRunner().invoke(app, ["--help"]).output


def test_the_table_names_every_command_as_its_options_do() -> None:
    assert [spec_of(name).command for name in COMMANDS] == list(COMMANDS)


FILES = {
    "method": "merge a b --method equal_lengths --base base -o out --no-eval",
    "sparsifier": "merge a b --method smallest --base base --density .5 -o out --no-eval",
    "command": "latest runs -o out --no-eval",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.slow
def test_a_file_is_the_command_line_with_what_it_adds(
    name: str, small: Path, training: Path, tmp_path: Path
) -> None:
    for model in ("a", "b", "base"):
        (tmp_path / model).symlink_to(small / model)
    program = ROOT / "examples" / "extend" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, str(program), *FILES[name].split(), "--no-fsync"],
        capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "model.safetensors").exists()
