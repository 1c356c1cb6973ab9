"""The folders of measurements: nothing that was there is lost, whoever made it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.comparison import Preflight
from mergekit_geo.cli.app import app
from mergekit_geo.errors import OutputError, OutputExistsError
from mergekit_geo.outputs import output
from mergekit_geo.outputs.kind import MERGED, Kind
from tests.conftest import Save


class Weights(nn.Module):
    """Four weights and the loss of a quadratic."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(values, dtype=torch.float64).reshape(2, 2))


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    assert isinstance(model, Weights)
    return batch.to(model.w.dtype) * (model.w**2).sum()


BATCHES = list(torch.linspace(0.5, 1.5, 48).reshape(8, 6))
DATA = geo.FunctionObjective(loss, BATCHES)
A, B = Weights(1, 0, 2, 0), Weights(0, 1, 0, -1)
MEASURE: dict[str, Callable[..., Any]] = {
    "barrier": lambda out, **more: geo.barrier([A, B], out, points=3, data=DATA, **more),
    "sharpness": lambda out, **more: geo.sharpness([A], out, data=DATA, **more),
    "landscape": lambda out, **more: geo.landscape(
        [A, B], out, view=geo.LandscapeConfig(grid=2), data=DATA, **more
    ),
    "path": lambda out, **more: geo.fit_path(
        [A, B],
        out,
        train_data=DATA,
        fitting=geo.CurveFitConfig(steps=2, batch_size=2),
        data=DATA,
        **more,
    ),
}
EVERY = pytest.mark.parametrize("command", MEASURE)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def beside(out: Path) -> list[str]:
    """What lies in its folder, the cache apart."""
    return sorted(path.name for path in out.parent.iterdir() if path.name != "cache")


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.exit_code, result.stderr


def killed(work: Callable[[], object]) -> None:
    """Run in a child that is to be killed by what it does."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# --- what is replaced


@EVERY
def test_a_measurement_replaces_an_earlier_one_of_its_kind_and_no_other(
    tmp_path: Path, command: str
) -> None:
    out, measure = tmp_path / "out", MEASURE[command]
    out.mkdir(mode=0o700)  # an empty folder is one that can be used
    measure(out)
    assert json.loads((out / "report.json").read_text())["command"] == command
    assert out.stat().st_mode & 0o777 == 0o700
    (out / ".DS_Store").touch()
    measure(out, overwrite=True)
    assert beside(out) == ["out"]
    assert not (out / ".DS_Store").exists()
    before = files(out)
    others = {name: other for name, other in MEASURE.items() if name != command}
    for name, other in others.items():
        with pytest.raises(OutputExistsError, match=rf"geo-merge {command}, not of {name}|has no"):
            other(out, overwrite=True)
    with pytest.raises(OutputExistsError, match="it has no merge"):
        geo.soup([A, B], out, data=None, output=geo.OutputConfig(overwrite=True))
    (out / "figures").mkdir(exist_ok=True)
    (out / "figures" / "mine.png").write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match=r"did not write the figures/mine\.png in it"):
        measure(out, overwrite=True)
    assert files(out) == {**before, "figures/mine.png": b"precious"}
    assert beside(out) == ["out"]


@EVERY
def test_weights_are_never_replaced_by_a_measurement(
    save: Save, tmp_path: Path, command: str
) -> None:
    out = tmp_path / "out"
    geo.soup([save("a"), save("b")], out, data=None, output=geo.OutputConfig(fsync=False))
    before = files(out)
    words = [command, out, save("c"), "-o", out, "--overwrite"]
    words += ["--train-data", "builtin:python-docs"] if command == "path" else []
    code, stderr = invoke(*words)
    assert code == 1
    assert "so it is not replaced (remove it yourself, or choose another -o)" in " ".join(
        stderr.split()
    )
    (out / "report.json").write_text(json.dumps({"schema_version": 1, "command": command}))
    (out / "path.json").write_text("{}")
    with pytest.raises(OutputExistsError, match=f"geo-merge {command} did not write the"):
        MEASURE[command](out, overwrite=True)
    assert (out / "model.safetensors").read_bytes() == before["model.safetensors"]


@pytest.mark.parametrize("place", ["a/way", "."])
def test_a_measurement_and_its_inputs_stay_apart(save: Save, tmp_path: Path, place: str) -> None:
    a, b = save("a"), save("b")
    way = tmp_path / place if place != "." else tmp_path / "a"
    if place == ".":
        MEASURE["barrier"](tmp_path / "old")
        for path in (tmp_path / "old").iterdir():
            shutil.move(path, a)
    code, stderr = invoke("barrier", a, b, "-o", way, "--overwrite")
    assert code == 1
    assert "would touch the input" in stderr or "did not write the" in stderr
    assert (a / "model.safetensors").is_file()
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda out, old: out.symlink_to(old), "this is a link, so it is not replaced"),
        (lambda out, old: out.symlink_to(old / "gone"), "this is a link, so it is not replaced"),
        (lambda out, old: out.write_text("precious"), "this is no folder, so it is not replaced"),
        (lambda out, old: out.mkdir() or (out / "x").touch(), r"\(it has no report\.json\)"),
        (
            lambda out, old: out.mkdir() or (out / "report.json").write_text("[" * 200_000),
            "this is no report of geo-merge",
        ),
        (
            lambda out, old: (
                out.mkdir() or (out / "report.json").write_text('{"command": "barrier"}')
            ),
            "this is no report of geo-merge",
        ),
    ],
    ids=["link", "dangling", "file", "folder", "deep", "another's report"],
)
def test_what_is_no_measurement_is_not_replaced(
    tmp_path: Path, make: Callable[[Path, Path], object], message: str
) -> None:
    old, out = tmp_path / "old", tmp_path / "out"
    MEASURE["barrier"](old)
    make(out, old)
    before = files(tmp_path)
    with pytest.raises(OutputExistsError, match=r"the output exists \(remove it yourself"):
        MEASURE["barrier"](out)
    with pytest.raises(OutputExistsError, match=message):
        MEASURE["barrier"](out, overwrite=True)
    assert files(tmp_path) == before


# --- what lies in OUT.partial


def foreign(partial: Path) -> None:
    partial.mkdir()
    (partial / "thesis.tex").touch()


def merged(partial: Path) -> None:
    geo.soup([A, B], partial, data=None, output=geo.OutputConfig(fsync=False))


def another_measurement(partial: Path) -> None:
    MEASURE["sharpness"](partial)


def unfinished_merge(partial: Path) -> None:
    with output.Output(partial.with_name("out"), MERGED) as work:
        work.begin(["work"])
        (work.folder / "model.safetensors").write_bytes(b"half")


def unfinished_path(partial: Path) -> None:
    with output.Output(partial.with_name("out"), geo_path_kind()) as work:
        work.begin([])
        (work.folder / "fit.safetensors").write_bytes(b"hours")


def geo_path_kind() -> Kind:
    from mergekit_geo.connectivity.path_folder import PATH

    return PATH


def linked(partial: Path) -> None:
    (partial.parent / "precious").mkdir()
    (partial.parent / "precious" / "model.safetensors").write_bytes(b"weights")
    partial.symlink_to(partial.parent / "precious")


COMMANDS = {
    **MEASURE,
    "soup": lambda out, **_: geo.soup(
        [A, B], out, data=None, output=geo.OutputConfig(overwrite=True)
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "make",
    [foreign, merged, another_measurement, unfinished_merge, unfinished_path, linked],
    ids=lambda make: make.__name__,
)
def test_only_our_own_unfinished_work_is_taken_up(
    tmp_path: Path, make: Callable[[Path], None], command: str
) -> None:
    make(tmp_path / "out.partial")
    if (make, command) in {(unfinished_path, "path"), (unfinished_merge, "soup")}:
        COMMANDS[command](tmp_path / "out")  # its own: it goes on
        assert beside(tmp_path / "out") == ["out"]
        assert b"half" not in files(tmp_path / "out").values()
        return
    before = files(tmp_path)
    with pytest.raises(OutputExistsError, match=r"out\.partial: in the way"):
        COMMANDS[command](tmp_path / "out")
    assert files(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_a_link_among_unfinished_tensors_is_not_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"weights")
    unfinished_merge(tmp_path / "out.partial")
    place = tmp_path / "out.partial" / "model.safetensors"
    place.unlink()
    place.symlink_to(precious)
    (tmp_path / "out.partial" / "folder").symlink_to(tmp_path)
    COMMANDS["soup"](tmp_path / "out")
    assert precious.read_bytes() == b"weights"
    assert not (tmp_path / "out" / "model.safetensors").is_symlink()


# --- two at once, and kills


@EVERY
def test_two_measurements_do_not_share_an_output(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins while the first is measuring."""
    tried = []

    def again(model: nn.Module, batch: Tensor) -> Tensor:
        if not tried:
            tried.append(1)
            with pytest.raises(OutputError, match="another run is writing this output"):
                MEASURE[command](tmp_path / "out")
            tried.append(2)
        return loss(model, batch)

    monkeypatch.setattr("tests.commands.test_folders.DATA", geo.FunctionObjective(again, BATCHES))
    MEASURE[command](tmp_path / "out")
    assert tried == [1, 2]
    assert beside(tmp_path / "out") == ["out"]


def test_a_merge_has_its_place_to_itself_before_it_measures(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one begins when the weights are about to be fetched."""
    models, fetch, tried = [save("a"), save("b")], Preflight.fetch, []

    def fetched(found: Preflight) -> tuple[Checkpoint, ...]:
        tried.append(1)
        with pytest.raises(OutputError, match="another run is writing this output"):
            geo.soup(models, tmp_path / "out", data=None)
        return fetch(found)

    monkeypatch.setattr(Preflight, "fetch", fetched)
    geo.soup(models, tmp_path / "out", data=None)
    assert tried == [1]
    assert beside(tmp_path / "out") == ["a", "b", "out"]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    nan = geo.FunctionObjective(lambda model, batch: batch * float("nan"), BATCHES)
    with pytest.raises(geo.errors.DataError, match="not a number"):
        geo.landscape([A, B], tmp_path / "out", view=geo.LandscapeConfig(grid=2), data=nan)
    assert beside(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("command", "moment"),
    [
        ("barrier", "move"),
        ("sharpness", "rmtree"),
        ("landscape", "exchange"),
        ("path", "exchange"),
        ("path", "rmtree"),
    ],
)
def test_a_kill_while_an_output_appears_loses_neither(
    tmp_path: Path, command: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first rename, before the exchange, and after it while the old one is removed."""
    out, measure = tmp_path / "out", MEASURE[command]
    if moment != "move":
        measure(out)
    before = files(out) if out.exists() else None
    first = out.stat().st_ino if out.exists() else None
    with monkeypatch.context() as patch:
        if moment == "rmtree":
            patch.setattr("shutil.rmtree", die)
        else:
            patch.setattr(output, moment, die)
        killed(lambda: measure(out, overwrite=True))
    assert beside(out) == [".out.geo", *(["out"] if before else []), "out.partial"]
    if moment == "exchange":
        assert files(out) == before
    elif moment == "rmtree":
        assert out.stat().st_ino != first
        assert geo.read_report(out).command == command
    measure(out, overwrite=True)
    assert geo.read_report(out).command == command
    assert beside(out) == ["out"]
