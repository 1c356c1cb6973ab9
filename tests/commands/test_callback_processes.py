"""SoupCallback in two gloo processes: one writes and merges, and the other waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.commands import two_trainings
from tests.commands.trainings import mean, weights

pytestmark = pytest.mark.slow

Found = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes wrote, in one launch by torchrun itself for all tests."""
    found = tmp_path_factory.mktemp("ranks")
    launch = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [sys.executable, "-m", *launch, str(two_trainings.__file__), str(found)],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return found


@pytest.fixture(scope="module")
def found(folder: Path) -> Found:
    first, second = (torch.load(folder / f"rank-{r}.pt", weights_only=False) for r in range(2))
    return first, second


def test_replicas_wait_for_the_soup_of_the_first(found: Found, folder: Path) -> None:
    first, second = (rank["replicas"] for rank in found)
    assert (first.pop("world"), second.pop("world")) == ((0, 2), (1, 2))
    assert first == second
    assert first["state"], "accelerate's state is what it was"
    assert first["out"] == str(folder / "replicas")
    members = sorted((folder / "replicas-members").iterdir())
    assert {int(path.name.removeprefix("step-")) for path in members} == set(first["steps"])
    kept = [json.loads((path / "member.json").read_text())["metric"] for path in members]
    assert kept == ["eval_loss"] * 2
    models = [weights(folder / "replicas-members" / f"step-{step}") for step in first["steps"]]
    shares = first["weights"]
    naive = {
        name: sum(w * m[name].double() for w, m in zip(shares, models, strict=True))
        for name in models[0]
    }
    for name, tensor in weights(folder / "replicas").items():
        torch.testing.assert_close(tensor.double(), naive[name], rtol=2e-7, atol=0)


def test_sharded_weights_are_kept_whole(found: Found, folder: Path) -> None:
    first, second = (rank["sharded"] for rank in found)
    assert first["steps"] == second["steps"] == [5, 10]
    members = [weights(folder / "sharded-members" / f"step-{step}") for step in (5, 10)]
    assert members[1].keys() == weights(folder / "tiny").keys()
    assert all(first["final"][name].equal(tensor) for name, tensor in members[1].items())
    assert not all(tensor.equal(members[1][name]) for name, tensor in members[0].items())
    torch.testing.assert_close(weights(folder / "sharded"), mean(members), rtol=2e-7, atol=0)


def test_weights_that_torch_shards_are_saved_whole(found: Found, folder: Path) -> None:
    saved, before = weights(folder / "by-torch"), weights(folder / "tiny")
    assert saved.keys() == before.keys()
    assert all(tensor.equal(before[name]) for name, tensor in saved.items())
    config = json.loads((folder / "by-torch" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]


def test_a_soup_that_fails_is_told_to_all(found: Found, folder: Path) -> None:
    first, second = (rank["failing"]["error"] for rank in found)
    assert first == second
    assert first.startswith(f"{folder / 'failing-members'}: the soup of the 2 members here failed")
    assert "the output exists" in first
