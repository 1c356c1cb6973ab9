"""examples/pipeline.py as its user runs it: what arrives on a Hub, and what a gate holds back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from mergekit_geo.data.text import builtin_documents
from tests.checkpoints.hub_process import process
from tests.checkpoints.hub_server import serve_hub
from tests.checkpoints.hub_store import Hub, Token
from tests.commands.trainings import tiny, tiny_tokenizer
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

TOKEN = "hf_owner_5e6f"
QUICK = ("--steps", "5", "--length", "16", "--lr", "0.003")


@dataclass
class Place:
    """A folder with a tiny base, text, and a Hub."""

    hub: Hub
    home: Path

    def run(self, out: str, *more: str) -> subprocess.CompletedProcess[str]:
        script = process(self.hub, self.home, str(ROOT / "examples" / "pipeline.py"))
        words = ("base", "train.txt", "held-out.txt", out, f"org/{out}", *QUICK, *more)
        return script(*words, HF_TOKEN=TOKEN, XDG_CACHE_HOME=str(self.home / "cache"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("pipeline")
    (home / "store").mkdir()
    texts = [" ".join(document.text.split())[:200] for document in builtin_documents("train")]
    (home / "train.txt").write_text("\n\n".join(texts[24:]))
    (home / "held-out.txt").write_text("\n\n".join(texts[:24]))
    (home / "more.txt").write_text("\n\n".join(text[::-1] for text in texts[:24]))
    for seed, name in enumerate(("base", "stranger")):
        tokenizer = tiny_tokenizer()
        tokenizer.save_pretrained(home / name)
        ids = torch.tensor(tokenizer("\n\n".join(texts[24:]), verbose=False).input_ids)
        pretrained(ids, seed).save_pretrained(home / name)
    with serve_hub(home / "store") as hub:
        hub.tokens = {TOKEN: Token()}
        yield Place(hub, home)


def pretrained(ids: Tensor, seed: int) -> LlamaForCausalLM:
    """Far enough for a basin of its own."""
    model, draw = tiny(seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(300):
        starts = torch.randint(len(ids) - 16, (16,), generator=draw)
        rows = torch.stack([ids[start : start + 16] for start in starts])
        model(input_ids=rows, labels=rows).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def test_the_soup_of_two_runs_arrives(place: Place) -> None:
    done = place.run("good", "--fail-above", "0.02", "--also-on", "more=more.txt")
    assert done.returncode == 0, done.stderr
    model = place.home / "good" / "model"
    there = place.hub.files("org/good")
    local = {
        path.relative_to(model).as_posix(): path for path in model.rglob("*") if path.is_file()
    }
    assert there.keys() - local.keys() == {".gitattributes"}
    assert local.keys() - there.keys() == {"examples.jsonl"}  # texts that are not public
    del local["examples.jsonl"]
    for name, path in local.items():
        blob = there[name].path
        assert blob is not None
        assert blob.read_bytes() == path.read_bytes()
    report = json.loads((model / "report.json").read_text())
    assert [entry["name"] for entry in report["models"]] == ["good/run-0", "good/run-1"]
    assert (there["README.md"].path or Path()).read_text().startswith("---\n")
    assert list(report["verdict"]["sets"]) == ["held-out", "more"]
    first, second = (json.loads((place.home / "good" / f"run-{s}" / "report.json").read_text())
                     for s in range(2))  # fmt: skip
    assert first["result"]["selection"]["method"] == "greedy"
    assert len(second["models"]) == 3
    assert done.stdout.splitlines()[-1].startswith(
        f"good/model -> {place.hub.endpoint}/org/good at"
    )
    assert "kept step 5: " in done.stderr


def test_a_barrier_to_an_unrelated_model_stops_it(place: Place) -> None:
    done = place.run("bad", "--also", "stranger", "--fail-above", "0.02")
    assert done.returncode == 3, done.stderr
    assert done.stderr.splitlines()[-1] == "a barrier is above 0.02: no soup, no push"
    assert "org/bad" not in place.hub.repositories
    assert not (place.home / "bad" / "model").exists()
