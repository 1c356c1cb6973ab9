"""Code that comes with a model runs where --trust-remote-code was said, and never else."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast, ViTConfig, ViTForImageClassification
from typer.testing import CliRunner, Result

import mergekit_geo as geo
from mergekit_geo.cli.app import app
from tests.checkpoints.code_models import code_model, code_processor, code_tokenizer

QUICK = ("--sharpness", "off", "--no-fsync", "--device", "cpu")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


@pytest.fixture
def pair(tmp_path: Path, mark: Path, family: Path) -> tuple[Path, Path]:
    """Two models of code, with an ordinary tokenizer, and a text beside them."""
    folders = [code_model(tmp_path / name, mark, seed) for seed, name in enumerate("ab")]
    for folder in folders:
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(family / "base" / file, folder)
    lines = [json.dumps({"text": f"{n} green boats drift past"}) for n in range(24)]
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    return folders[0], folders[1]


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that runs is copied here, and not into the user's cache."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", tmp_path / "modules")
    monkeypatch.syspath_prepend(tmp_path / "modules")


def asked(*arguments: object) -> Result:
    """Run with a terminal's user who would say yes to whatever is asked."""
    return CliRunner().invoke(app, list(map(str, arguments)), input="y\n" * 9)


def said(done: Result) -> str:
    return " ".join((done.stdout + done.stderr).split())


def test_check_and_soup_without_losses_run_no_code(
    pair: tuple[Path, Path], tmp_path: Path, mark: Path
) -> None:
    a, b = (code_tokenizer(folder, mark) for folder in pair)
    done = asked("check", a, b)
    assert done.exit_code == 0
    assert "run the custom code" not in said(done)
    done = asked("soup", a, b, "-o", tmp_path / "out", "--no-eval", *QUICK)
    assert done.exit_code == 0
    assert (tmp_path / "out/modeling_tiny.py").read_bytes() == (a / "modeling_tiny.py").read_bytes()
    assert not mark.exists()


def test_a_soup_of_code_is_merged_and_says_what_would_measure_it(
    pair: tuple[Path, Path], tmp_path: Path, mark: Path
) -> None:
    done = asked("soup", *pair, "-o", tmp_path / "out", "--data", tmp_path / "d.jsonl", *QUICK)
    weights = [load_file(folder / "model.safetensors")["out.weight"] for folder in pair]
    merged = load_file(tmp_path / "out/model.safetensors")["out.weight"]
    assert torch.allclose(merged, (weights[0] + weights[1]) / 2)
    reasons = json.loads((tmp_path / "out/report.json").read_text())["not_measured"]
    assert "not run unasked (read that code; where you trust it, --trust-remote-code" in said(done)
    assert "--trust-remote-code" in reasons[0]["why"]
    assert not mark.exists()


@pytest.mark.parametrize(
    "command",
    [
        ("sharpness", "a"),
        ("barrier", "a", "b"),
        ("landscape", "a", "b"),
        ("path", "a", "b", "-o", "way", "--train-data", "d.jsonl", "--steps", "2"),
        ("finetune", "a", "-o", "out", "--train-data", "d.jsonl", "--steps", "2"),
    ],
)
@pytest.mark.parametrize("part", ["model", "tokenizer"])
def test_what_needs_the_code_is_refused(
    pair: tuple[Path, Path],
    tmp_path: Path,
    mark: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    part: str,
) -> None:
    if part == "tokenizer":
        for folder in pair:
            code_tokenizer(folder, mark)
    monkeypatch.chdir(tmp_path)
    done = asked(*command, "--data", "d.jsonl", "--device", "cpu")
    assert done.exit_code == 1
    assert f"the {part} comes with code of its own, which is not run unasked" in said(done)
    assert "--trust-remote-code" in said(done)
    assert "should not happen" not in said(done)
    assert not mark.exists()


@pytest.mark.usefixtures("modules")
def test_trusted_code_runs_and_is_measured(
    pair: tuple[Path, Path], tmp_path: Path, mark: Path
) -> None:
    data = ("--data", tmp_path / "d.jsonl", "--trust-remote-code")
    done = asked("soup", *pair, "-o", tmp_path / "out", *data, *QUICK)
    assert done.exit_code == 0, done.stderr
    assert "modeling_tiny" in mark.read_text()
    report = json.loads((tmp_path / "out/report.json").read_text())
    tokenizer = PreTrainedTokenizerFast.from_pretrained(pair[0])
    tensors = load_file(tmp_path / "out/model.safetensors")
    losses = []
    for number in range(24):
        ids = torch.tensor(tokenizer(f"{number} green boats drift past")["input_ids"])
        logits = tensors["rows.weight"][ids] @ tensors["out.weight"].T + tensors["out.bias"]
        losses.append(torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none"))
    wanted = pytest.approx(float(torch.cat(losses).mean()), abs=1e-3)
    assert report["result"]["losses"][-1]["loss"] == wanted
    told = geo.EvalData(source=str(tmp_path / "d.jsonl"))
    trusting = geo.Compute(device="cpu", trust_remote_code=True)
    merged = geo.soup(list(pair), data=told, compute=trusting, sharpness="off")
    assert merged.report.result.losses[-1].loss == wanted


def vision(folder: Path, mark: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    size = {"num_attention_heads": 2, "image_size": 8, "patch_size": 4, "num_labels": 2}
    ViTForImageClassification(ViTConfig(**shape, **size)).save_pretrained(folder)
    return code_processor(folder, mark)


@pytest.mark.usefixtures("modules")
def test_an_image_processor_of_code_is_not_run_and_not_passed_over(
    tmp_path: Path, mark: Path
) -> None:
    models = [vision(tmp_path / name, mark, seed) for seed, name in enumerate("ab")]
    rows = [{"image": np.full((8, 8, 3), n).tolist(), "label": n % 2} for n in range(20)]
    (tmp_path / "img.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ("barrier", *models, "--data", tmp_path / "img.jsonl", "--device", "cpu")
    done = asked(*command)
    assert done.exit_code == 1
    assert "the image processor comes with code of its own" in said(done)
    assert not mark.exists()
    assert asked(*command, "--trust-remote-code").exit_code == 0
    assert "processing_own" in mark.read_text()
