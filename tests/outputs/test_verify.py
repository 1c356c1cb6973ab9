"""Folders that are no whole output are not pushed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import mergekit_geo as geo
from mergekit_geo.errors import PushError
from mergekit_geo.outputs.verify import require_finished
from tests.conftest import Save


@pytest.fixture
def out(save: Save, tmp_path: Path) -> Path:
    """An output of two shards."""
    output = geo.OutputConfig(fsync=False, max_shard_size="120")
    geo.soup([save("a"), save("b")], tmp_path / "out", output=output, data=None)
    return tmp_path / "out"


def test_an_output_is_its_files_without_hidden_ones(out: Path) -> None:
    (out / ".cache").mkdir()
    (out / ".cache" / "secret").write_text("x")
    (out / ".env").write_text("x")
    (out / "figures").mkdir()
    (out / "figures" / "mine.png").write_bytes(b"x")
    found = [path.as_posix() for path in require_finished(out)]
    assert found == [
        "README.md", "config.json", "figures/mine.png", "merge.json",
        *(f"model-0000{i}-of-00002.safetensors" for i in (1, 2)),
        "model.safetensors.index.json", "report.html", "report.json",
    ]  # fmt: skip


def without(name: str) -> Callable[[Path], object]:
    return lambda out: (out / name).unlink()


def truncated(out: Path) -> None:
    shard = out / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])


def of_fewer_tensors(out: Path) -> None:
    """Another model's only file, which is read in place of the shards."""
    state = load_file(out / "model-00001-of-00002.safetensors")
    save_file(state, out / "model.safetensors", {"format": "pt"})


def unfinished(out: Path) -> None:
    (out / "journal.jsonl").write_text("{}\n")


def partial(out: Path) -> None:
    shutil.copytree(out, out.with_name("out.partial"))
    shutil.rmtree(out)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, r"out: no such folder \(give the -o of a merge\)"),
        (partial, r"out\.partial: this output is unfinished \(run the merge again: it continues"),
        (unfinished, r"out: this output is unfinished \(run the merge again"),
        (without("merge.json"), r"this is no output of geo-merge \(it has no merge\.json\)"),
        (without("report.json"), r"this output is incomplete: it has no report\.json"),
        (without("README.md"), r"this output is incomplete: it has no README\.md"),
        (without("model-00002-of-00002.safetensors"), r"incomplete: the index names the shard mod"),
        (without("model.safetensors.index.json"), r"incomplete: 2 safetensors files and no model"),
        (truncated, r"incomplete: not a sound safetensors file"),
        (of_fewer_tensors, r"incomplete: model\.\S+ is missing, and \d other tensors"),
        (lambda out: (out / "merge.json").write_text("[]"), r"incomplete: merge\.json is not sou"),
    ],
    ids=["absent", "partial", "journal", "no recipe", "no report", "no card", "shard", "index",
         "truncated", "other weights", "recipe"],
)  # fmt: skip
def test_what_is_no_whole_output_is_refused(
    out: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(out)
    with pytest.raises(PushError, match=message):
        require_finished(out)
