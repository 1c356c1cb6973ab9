"""The command line against a Hub: what it downloads, and what it says when it cannot."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import mergekit_geo as geo
from tests.checkpoints.hub_models import make_model, shard, shard_name
from tests.checkpoints.hub_process import Cli, command_line, failed, succeeded
from tests.checkpoints.hub_server import serve_hub
from tests.checkpoints.hub_store import Hub

HEADER_REQUEST = 100_001
"""Bytes of a file's beginning that the hub client asks for, hoping to get the header with it."""

LARGE = 2000
"""Rows that make a file larger than a header request."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve_hub() as served:
        yield served


@pytest.fixture
def cli(hub: Hub, tmp_path: Path) -> Cli:
    """`geo-merge` in a folder of its own, with an empty cache."""
    return command_line(hub, tmp_path)


@dataclass
class Merge:
    """A soup of `org/a`, in one file, and `org/b`, in shards; made once for several tests."""

    hub: Hub
    cli: Cli
    shas: list[str]
    folders: list[Path]
    out: Path


@pytest.fixture(scope="module")
def merge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Merge]:
    home = tmp_path_factory.mktemp("merge")
    folders = [make_model(home / "a"), shard(make_model(home / "whole"), home / "b")]
    with serve_hub() as served:
        shas = [served.publish(f"org/{f.name}", add_clutter(f)) for f in folders]
        cli = command_line(served, home)
        succeeded(soup(cli, "org/a", "org/b"))
        yield Merge(served, cli, shas, folders, home / "out")


def test_a_soup_of_hub_models_is_the_soup_of_their_folders(merge: Merge, tmp_path: Path) -> None:
    geo.soup(merge.folders, tmp_path / "local", data=None)
    for file in ("model.safetensors", "config.json", "generation_config.json"):
        assert (merge.out / file).read_bytes() == (tmp_path / "local" / file).read_bytes()


def test_the_report_states_the_commits(merge: Merge) -> None:
    models = json.loads((merge.out / "report.json").read_text())["models"]
    assert [model["name"] for model in models] == ["org/a", "org/b"]
    assert [model["revision"] for model in models] == merge.shas


def test_only_weights_and_companions_are_downloaded(merge: Merge) -> None:
    companions = {"config.json", "generation_config.json"}
    shards = {"model.safetensors.index.json", shard_name(1), shard_name(2)}
    assert merge.hub.sent("org/a").keys() == companions | {"model.safetensors"}
    assert merge.hub.sent("org/b").keys() == companions | shards


def test_what_was_downloaded_serves_offline(merge: Merge) -> None:
    asked = len(merge.hub.requests)
    models = ["org/a", f"org/a@{merge.shas[0]}", "org/b"]
    result = succeeded(merge.cli("check", *models, "--json", HF_HUB_OFFLINE="1"))
    assert revisions(result) == [merge.shas[0], *merge.shas]
    assert len(merge.hub.requests) == asked


def test_offline_without_a_cache_asks_nobody(hub: Hub, cli: Cli, tmp_path: Path) -> None:
    hub.publish("org/a", make_model(tmp_path / "models" / "a"))
    failed(
        cli("check", "org/a", "org/a", HF_HUB_OFFLINE="1"),
        r"org/a: no folder \S+, and org/a is not in the cache \(.*unset HF_HUB_OFFLINE.*\)",
    )
    assert hub.requests == []


def test_a_revision_is_a_branch_or_a_commit(hub: Hub, cli: Cli, tmp_path: Path) -> None:
    old = hub.publish("org/a", make_model(tmp_path / "old"), branch="v1.0")
    new = hub.publish("org/a", make_model(tmp_path / "new"))
    result = succeeded(cli("check", "org/a@v1.0", f"org/a@{old}", "org/a", "--json"))
    assert revisions(result) == [old, old, new]


def test_incompatible_models_cost_only_their_headers(hub: Hub, cli: Cli, tmp_path: Path) -> None:
    for name, rows in {"a": LARGE, "b": LARGE + 1}.items():
        hub.publish(f"org/{name}", make_model(tmp_path / name, rows=rows))
    message = rf"the models cannot be merged, 2 problems:.*v is \[{LARGE}, 16\] in org/a and .*"
    failed(soup(cli, "org/a", "org/b"), message)
    for repo in ("org/a", "org/b"):
        assert 0 < hub.sent(repo)["model.safetensors"] <= HEADER_REQUEST
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("org/none", r"no folder \S+none, and no repository org/none at http://\S+ \(check the .*"),
        ("org/a@v9", r"org/a has no revision 'v9'"),
        ("org/gated", r"access to this repository is restricted \(accept its terms at http://.*"),
        ("org/pickled", r"the weights are pickled \(pytorch_model\.bin\), .* \(convert it if you "
         r"trust it: python -c \".*\" org/pickled pickled-safetensors\)"),
        ("org/torn", r"the index names the shard model-00002-of-00002\.safetensors, which is .*"),
    ],
    ids=["unknown", "no such revision", "gated", "pickled", "shard missing"],
)  # fmt: skip
def test_what_cannot_be_had_is_one_clear_line(
    model: str, message: str, hub: Hub, cli: Cli, tmp_path: Path
) -> None:
    hub.publish("org/a", make_model(tmp_path / "a"))
    hub.publish("org/gated", make_model(tmp_path / "gated"), gated=True)
    hub.publish("org/pickled", pickled(make_model(tmp_path / "pickled")))
    torn = shard(make_model(tmp_path / "whole"), tmp_path / "torn")
    (torn / shard_name(2)).unlink()
    hub.publish("org/torn", torn)
    failed(cli("check", model, "org/a"), rf"{model}: {message}")
    assert not [file for file in hub.sent(model) if file.endswith((".safetensors", ".bin"))]


def test_no_network_is_one_clear_line(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen: connections are refused
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = cli("check", "org/a", "org/b", HF_ENDPOINT=endpoint)
    failed(
        result,
        rf"org/a: no folder \S+, and {endpoint} could not be asked for org/a: .*refused "
        r"\(check the network; HF_HUB_OFFLINE=1 uses what is in the cache\)",
    )


def test_a_lost_download_leaves_nothing_and_can_be_repeated(
    hub: Hub, cli: Cli, tmp_path: Path
) -> None:
    for name in "ab":
        hub.publish(f"org/{name}", make_model(tmp_path / "models" / name, rows=LARGE))
    hub.cuts["org/b/model.safetensors"] = ["reset"]
    failed(soup(cli, "org/a", "org/b"), r".*org/b: .*Connection reset.* \(check the network.*")
    assert not list(tmp_path.glob("out*"))

    before = hub.sent("org/a")["model.safetensors"]
    # This time the connection ends early, and the hub client itself tries again.
    hub.cuts["org/b/model.safetensors"] = ["end"]
    succeeded(soup(cli, "org/a", "org/b"))
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert not hub.cuts["org/b/model.safetensors"]
    assert hub.sent("org/a")["model.safetensors"] - before <= HEADER_REQUEST


def soup(cli: Cli, *models: str) -> subprocess.CompletedProcess[str]:
    return cli("soup", *models, "-o", "out", "--no-eval", "--no-fsync", "--quiet")


def revisions(result: subprocess.CompletedProcess[str]) -> list[str]:
    return [model["revision"] for model in json.loads(result.stdout)["models"]]


def add_clutter(folder: Path) -> Path:
    """What repositories hold besides the model; of it only the generation settings are wanted."""
    (folder / "generation_config.json").write_text('{"max_length": 20}')
    (folder / "original").mkdir()
    for unwanted in ("pytorch_model.bin", "README.md", "original/consolidated.00.pth"):
        (folder / unwanted).write_bytes(b"unwanted" * 1000)
    return folder


def pickled(folder: Path) -> Path:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return folder


@pytest.mark.slow
def test_a_folder_in_a_repository(hub: Hub, cli: Cli, tmp_path: Path) -> None:
    """Nothing else of the repository is downloaded, and its commit and place are recorded."""
    shas = {}
    for name in "ab":
        pipe = tmp_path / "models" / name
        for part in ("unet", "vae"):
            make_model(pipe / part)
        (pipe / "model_index.json").write_text("{}")
        (pipe / "README.md").write_text("---\nlicense: mit\n---\n")
        shas[name] = hub.publish(f"org/{name}", pipe, branch="v1")
    succeeded(soup(cli, "org/a@v1:unet", "org/b@v1:unet"))
    assert hub.sent("org/a").keys() == {"unet/config.json", "unet/model.safetensors"}
    pinned = [f"org/{name}@{shas[name]}:unet" for name in "ab"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"geo-merge soup {' '.join(pinned)} -o ../out-again" in card
    assert f"- model: {pinned[0]}" in card
    assert "[org/a:unet](" in card
    assert f"/org/a/tree/{shas['a']}/unet)" in card
    assert "base_model:\n- org/a\n- org/b\n" in card
    assert "license: mit" in card
    offline = cli("check", *pinned, "--json", HF_HUB_OFFLINE="1")
    assert revisions(succeeded(offline)) == list(shas.values())
    failed(
        cli("check", "org/a@v1:text", pinned[0]),
        r"org/a:text: org/a has no folder text \(folders in it: unet, vae\)",
    )
