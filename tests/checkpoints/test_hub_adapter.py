"""Adapters on the Hub: what is downloaded and when, what is recorded, and what is said."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file, save_file

import mergekit_geo as geo
from tests.checkpoints.adapter_models import make_adapter, make_base, rewrite
from tests.checkpoints.hub_process import hub_settings
from tests.checkpoints.hub_server import serve_hub
from tests.checkpoints.hub_store import Hub

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


SHELL = """
import json, sys
from typer.testing import CliRunner
from mergekit_geo.cli.app import app
for line in sys.stdin:
    found = CliRunner().invoke(app, json.loads(line))
    print(json.dumps([found.exit_code, found.stdout, found.stderr]), flush=True)
"""
"""One process for many commands: each would import transformers anew."""


@dataclass
class Shell:
    """`geo-merge` in a folder, against a Hub."""

    process: subprocess.Popen[str]

    def __call__(self, *arguments: str) -> SimpleNamespace:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(arguments), file=self.process.stdin, flush=True)
        code, out, err = json.loads(self.process.stdout.readline())
        return SimpleNamespace(code=code, out=out, err=err.rstrip("\n"))

    def soup(self, out: Path, *models: str) -> SimpleNamespace:
        return self("soup", *models, "-o", str(out), "--no-eval", "--no-fsync", "--quiet")


@contextmanager
def shell(hub: Hub, folder: Path, **environment: str) -> Iterator[Shell]:
    process = subprocess.Popen(
        [sys.executable, "-c", SHELL],
        cwd=folder,
        env={**os.environ, **hub_settings(hub, folder), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Shell(process)
        assert process.stdin is not None
        process.stdin.close()


def succeeded(result: SimpleNamespace) -> SimpleNamespace:
    assert result.code == 0, result.err
    return result


def failed(result: SimpleNamespace, message: str) -> None:
    """The command failed, and `message` is all that it said."""
    assert (result.code, result.out) == (1, ""), result
    assert re.fullmatch(rf"geo-merge \w+: {message}", result.err, re.DOTALL), result.err


@dataclass
class Served:
    """`org/base`, two adapters of it, and a larger model, on a Hub."""

    hub: Hub
    run: Shell
    folder: Path
    shas: dict[str, str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("hub")
    base = make_base(folder / "base", vocab_size=2000)  # larger than the request for its header
    make_base(folder / "wide", vocab_size=2000, hidden_size=16)
    for seed, name in enumerate("ab"):
        adapter = make_adapter(base, folder / name, seed, target_modules=["q_proj", "up_proj"])
        rewrite(adapter / CONFIG, base_model_name_or_path="org/base")
    with serve_hub() as hub:
        shas = {
            name: hub.publish(f"org/{name}", folder / name) for name in ("base", "wide", "a", "b")
        }
        with shell(hub, folder) as run:
            yield Served(hub, run, folder, shas)


@pytest.fixture(scope="module")
def merged(served: Served) -> Path:
    out = served.folder / "out"
    succeeded(served.run.soup(out, "org/a", "org/base@main+org/b"))
    return out


def test_a_soup_of_adapters_is_that_of_their_folders(
    served: Served, merged: Path, tmp_path: Path
) -> None:
    models = [f"{served.folder / 'base'}+{served.folder / name}" for name in "ab"]
    geo.soup(models, tmp_path / "local", data=None)
    for file in ("model.safetensors", "config.json"):
        assert (merged / file).read_bytes() == (tmp_path / "local" / file).read_bytes()


def test_base_and_adapter_are_recorded_with_their_commits(served: Served, merged: Path) -> None:
    base = {"name": "org/base", "revision": served.shas["base"]}
    for file in ("report.json", "merge.json"):
        first, second = json.loads((merged / file).read_text())["models"]
        assert (first["name"], first["revision"]) == ("org/a", served.shas["a"])
        assert first["base"] == base
        assert first["adapter"] == {"name": "org/a", "revision": served.shas["a"]}
        assert (second["name"], second["revision"]) == ("org/base@main+org/b", served.shas["b"])
        assert second["base"] == {**base, "name": "org/base@main"}
    card = (merged / "README.md").read_text()
    assert "base_model:\n- org/base\n- org/a\n- org/b\n" in card
    assert f"{served.shas['base']} + {served.shas['a']}" in card


def test_of_an_adapter_only_what_is_needed_is_downloaded(served: Served, merged: Path) -> None:
    assert (served.folder / "a" / "README.md").is_file()
    assert served.hub.sent("org/a").keys() == {CONFIG, WEIGHTS}


def test_adapters_serve_offline(served: Served, merged: Path) -> None:
    asked = len(served.hub.requests)
    models = ["org/a", f"org/base+org/b@{served.shas['b']}"]
    with shell(served.hub, served.folder, HF_HUB_OFFLINE="1") as run:
        result = succeeded(run("check", *models, "--json"))
    found = json.loads(result.out)["models"]
    assert [model["base"]["revision"] for model in found] == [served.shas["base"]] * 2
    assert [model["adapter"]["revision"] for model in found] == [served.shas["a"], served.shas["b"]]
    assert len(served.hub.requests) == asked


def test_a_misfit_costs_only_headers(served: Served, tmp_path: Path) -> None:
    assert served.hub.sent("org/wide")["model.safetensors"] == 0
    failed(
        served.run.soup(tmp_path / "out", "org/wide+org/a"),
        r"the models cannot be merged, 4 problems:.*q_proj.weight is \[16, 16\] in org/wide, and "
        r"org/a changes \[8, 8\].*",
    )
    size = (served.folder / "wide" / "model.safetensors").stat().st_size
    assert 0 < served.hub.sent("org/wide")["model.safetensors"] < size / 2
    assert not list(tmp_path.iterdir())


def test_the_base_s_revision_that_an_adapter_states_is_used(served: Served, tmp_path: Path) -> None:
    other = make_base(tmp_path / "base", vocab_size=2000, rms_norm_eps=1e-3)
    old = served.hub.publish("org/base", other, "v1")
    pinned = copy(served.folder / "a", tmp_path / "pinned")
    rewrite(pinned / CONFIG, revision="v1")
    served.hub.publish("org/pinned", pinned)
    result = succeeded(served.run("check", "org/pinned", "org/base@v1", "--json"))
    first, second = json.loads(result.out)["models"]
    assert first["base"] == {"name": "org/base@v1", "revision": old}
    assert second["revision"] == old


def test_what_cannot_be_had_is_one_clear_line(served: Served, tmp_path: Path) -> None:
    orphan = copy(served.folder / "a", tmp_path / "orphan")
    rewrite(orphan / CONFIG, base_model_name_or_path="org/gone")
    pickled = copy(served.folder / "a", tmp_path / "pickled")
    (pickled / WEIGHTS).rename(pickled / "adapter_model.bin")
    strange = copy(served.folder / "a", tmp_path / "strange")
    rewrite(strange / CONFIG, peft_type="VERA")
    both = copy(served.folder / "a", tmp_path / "both")
    save_file(load_file(both / WEIGHTS), both / "model.safetensors")
    for folder in (orphan, pickled, strange, both):
        served.hub.publish(f"org/{folder.name}", folder)
    served.hub.publish("org/gated", served.folder / "a", gated=True)
    for model, message in (
        ("org/orphan", r"org/orphan: its base, org/gone, cannot be found: no folder \S+, and no "
         r"repository org/gone .*\(name the base yourself: BASE\+org/orphan\)"),
        ("org/pickled", r"org/pickled: the adapter is pickled .*: hf download org/pickled "
         r"--local-dir pickled && python -c \".*\" pickled\)"),
        ("org/strange", r"org/strange: this is a VERA adapter; LORA .* org/base org/strange "
         r"strange-merged\)"),
        ("org/both", r"org/both: it holds a whole model .*"),
        ("org/base+org/gated", r"org/gated: access to this repository is restricted .*"),
        ("org/base+org/none", r"org/none: no folder \S+none, and no repository org/none .*"),
        ("org/base+org/a@v9", r"org/a@v9: org/a has no revision 'v9'"),
    ):  # fmt: skip
        failed(served.run("check", model, "org/base"), message)
    assert WEIGHTS not in served.hub.sent("org/pickled")


@pytest.mark.slow
def test_a_lost_download_of_an_adapter_can_be_repeated(served: Served, tmp_path: Path) -> None:
    served.hub.publish("org/lost", copy(served.folder / "b", tmp_path / "lost"))
    served.hub.cuts[f"org/lost/{WEIGHTS}"] = ["reset"]
    out = tmp_path / "out"
    failed(served.run.soup(out, "org/lost"), r".*org/lost: .*Connection reset.* \(check the .*")
    assert not list(tmp_path.glob("out*"))
    succeeded(served.run.soup(out, "org/lost"))
    assert (out / "model.safetensors").is_file()


def copy(adapter: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in (CONFIG, WEIGHTS):
        (folder / file).write_bytes((adapter / file).read_bytes())
    return folder
