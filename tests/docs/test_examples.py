"""The short programs of examples/ run, in this process and at a small size."""

from __future__ import annotations

import runpy
import sys

import pytest
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

import mergekit_geo as geo
from scripts.docs.blocks import ROOT
from tests.docs.running import Session

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _elsewhere(session: Session) -> None:
    """In a folder with tiny models."""


def run(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """The exit code of a program."""
    monkeypatch.setattr(sys, "argv", [name, *words.split()])
    try:
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    except SystemExit as end:
        return end.code
    return 0


def test_own_fine_tunes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("own_fine_tunes", "held-out.jsonl out a b c", monkeypatch) == 0
    assert "greedy soup, out/greedy/report.html:" in capsys.readouterr().out
    assert geo.read_report("out/greedy").result.selection.method == "greedy"  # type: ignore[union-attr]


def test_models_that_do_not_fit_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    LlamaForCausalLM(LlamaConfig.from_pretrained("a", hidden_size=8)).save_pretrained("wide")
    said = run("own_fine_tunes", "held-out.jsonl out a wide", monkeypatch)
    assert str(said).startswith("the models cannot be merged")


def test_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("lora", "base held-out.jsonl out lora-1 lora-2", monkeypatch) == 0
    assert load_file("out/model.safetensors").keys() == load_file("a/model.safetensors").keys()


def test_members_trained_with_sam(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("sam_soup", "base train.jsonl held-out.jsonl out 4", monkeypatch) == 0
    assert len(geo.read_report("out/soup").models) == 3


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("5 held-out.jsonl out a b", 0),
        ("5 code=held-out.jsonl,chat=held-out.jsonl out a b", 0),
        ("0.05 held-out.jsonl out a independent", 3),
        ("5 held-out.jsonl out a independent", 3),
    ],
    ids=["open", "open on both sets", "a barrier", "a worse merge"],
)
def test_the_gate(words: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("gate", words, monkeypatch) == code
