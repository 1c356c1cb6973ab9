"""An input that is replaced, changed or removed while it is used ends the command."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import mergekit_geo as geo
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.errors import ChangedError
from mergekit_geo.progress import Silent
from tests.checkpoints.adapter_models import make_adapter, make_base
from tests.conftest import Save

Change = Callable[[Path], object]
FAST = geo.OutputConfig(fsync=False)


def replaced(file: Path) -> None:
    """The same tensors behind a longer header, under the same name."""
    fresh = file.with_suffix(".new")
    save_file(load_file(file), fresh, metadata={"format": "pt", "note": "x" * 4096})
    fresh.replace(file)


def shortened(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 8)


def overwritten(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(-4, os.SEEK_END)
        opened.write(b"\0\0\0\x7f")


CHANGES: dict[str, tuple[str, Change]] = {
    "weights replaced": ("model.safetensors", replaced),
    "weights cut short": ("model.safetensors", shortened),
    "weights overwritten": ("model.safetensors", overwritten),
    "weights removed": ("model.safetensors", Path.unlink),
    "config saved anew": ("config.json", lambda file: file.write_text(file.read_text() + "\n")),
    "config removed": ("config.json", Path.unlink),
}


class Meddling(Silent):
    """Does something when a phase begins, or when work has been done in it."""

    def __init__(self, at: str, change: Callable[[], object], *, late: bool = False) -> None:
        self.at, self.change, self.late = at, change, late
        self.here = False

    def phase(self, title: str, total: int) -> None:
        self.here = title.startswith(self.at)
        if self.here and not self.late:
            self._once()

    def advance(self, count: int) -> None:
        if self.here and self.late and count:
            self._once()

    def _once(self) -> None:
        change, self.change = self.change, lambda: None
        change()


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("model", "ab")
@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_published(
    save: Save, tmp_path: Path, change: str, model: str, late: bool
) -> None:
    models, out = [save("a"), save("b")], tmp_path / "out"
    name, act = CHANGES[change]
    told = Meddling("merging", lambda: act(tmp_path / model / name), late=late)
    with pytest.raises(ChangedError, match=rf"{model}/{name}: this input was|cut short") as error:
        geo.soup(models, out, output=FAST, data=None, progress=told)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_nothing_is_returned(save: Save, tmp_path: Path) -> None:
    models = [save("a"), save("b")]
    told = Meddling("merging", lambda: replaced(tmp_path / "b" / "model.safetensors"), late=True)
    with pytest.raises(ChangedError, match="this input was replaced"):
        geo.soup(models, data=None, progress=told)


def test_files_that_are_not_used_may_change(save: Save, tmp_path: Path) -> None:
    models, out = [save("a"), save("b")], tmp_path / "out"
    log = tmp_path / "a" / "events.log"
    log.write_text("1")
    told = Meddling("merging", lambda: log.write_text("12"))
    geo.soup(models, out, output=FAST, data=None, progress=told)
    assert (out / "model.safetensors").is_file()


@pytest.mark.parametrize("part", ["base", "one"])
def test_files_of_adapters_and_their_bases(tmp_path: Path, part: str) -> None:
    base = make_base(tmp_path / "base")
    adapters = [make_adapter(base, tmp_path / name) for name in ("one", "two")]
    files = {"base": "model.safetensors", "one": "adapter_model.safetensors"}
    told = Meddling("merging", lambda: replaced(tmp_path / part / files[part]), late=True)
    with pytest.raises(ChangedError, match=f"{part}/{files[part]}: this input was replaced"):
        geo.soup([f"{base}+{a}" for a in adapters], tmp_path / "out", data=None, progress=told)
    assert not (tmp_path / "out").exists()


MEASURES: dict[str, tuple[Callable[..., Any], str, dict[str, Any]]] = {
    "barrier": (geo.barrier, "abc", {}),
    "landscape": (geo.landscape, "abc", {"view": geo.LandscapeConfig(grid=3)}),
    "sharpness": (geo.sharpness, "b", {}),
    "soup": (geo.soup, "ab", {"sharpness": "off"}),
    "greedy": (
        geo.soup,
        "abc",
        {"sharpness": "off", "choosing": geo.SelectionConfig(method="greedy")},
    ),
}


@pytest.mark.parametrize(
    ("command", "held"), [(c, "on") for c in MEASURES] + [("barrier", "off"), ("soup", "off")]
)
@pytest.mark.slow
def test_measurements_of_what_changes(
    family: Path, tmp_path: Path, command: str, held: str
) -> None:
    run, names, options = MEASURES[command]
    for name in names:
        shutil.copytree(family / name, tmp_path / name)
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"{i} lines of text, and more of it" for i in range(24)))
    begins = "sharpness" if command == "sharpness" else "loss of"
    told = Meddling(begins, lambda: replaced(tmp_path / "b" / "model.safetensors"))
    with pytest.raises(ChangedError, match=r"b/model\.safetensors: this input was replaced"):
        run(
            [tmp_path / name for name in names], tmp_path / "out", progress=told,
            data=geo.EvalData(str(text), seq_len=16),
            compute=geo.Compute(anchors_in_memory=held), **options,
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_identity_is_of_the_file_that_was_opened(save: Save) -> None:
    folder = save("a")
    checkpoint = open_folder(folder)
    before = checkpoint.fingerprint()
    assert open_folder(folder).fingerprint() == before
    replaced(folder / "model.safetensors")
    with pytest.raises(ChangedError, match="this input was replaced"):
        checkpoint.fingerprint()


@pytest.mark.slow
def test_a_stopped_process_finds_the_new_file(tmp_path: Path) -> None:
    """What was found by trial: bytes of the new file at the old file's offsets, exit 0."""
    for name in "ab":
        (tmp_path / name).mkdir()
        state = {f"w{i}": torch.full((1 << 18,), float(i)) for i in range(40)}
        save_file(state, tmp_path / name / "model.safetensors", metadata={"format": "pt"})
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    command = ["soup", tmp_path / "a", tmp_path / "b", "-o", out, "--no-eval", "--no-fsync"]
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, "-m", "mergekit_geo", *map(str, command)],
            stderr=subprocess.PIPE,
            text=True,
        )
        while process.poll() is None and not partial.is_dir():
            time.sleep(0.0005)
        if process.poll() is None:
            process.send_signal(signal.SIGSTOP)
            replaced(tmp_path / "b" / "model.safetensors")
            process.send_signal(signal.SIGCONT)
            break
        shutil.rmtree(out)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "b/model.safetensors: this input was replaced" in " ".join(stderr.split())
    assert not out.exists()
    assert not partial.exists()
