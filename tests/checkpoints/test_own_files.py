"""Links that lead out of a checkpoint's folder are neither copied to an output nor pushed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import mergekit_geo as geo
from mergekit_geo.checkpoints.own_files import is_own
from mergekit_geo.errors import UnsupportedError
from tests.checkpoints.hub_process import command_line, failed, succeeded
from tests.checkpoints.hub_server import serve_hub
from tests.checkpoints.hub_store import Token
from tests.conftest import Save

SECRET = "the private key"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text(SECRET)
    return tmp_path / "private" / "key"


def holds_secret(folder: Path) -> list[str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in paths if SECRET.encode() in path.read_bytes()]


def soup(*models: Path) -> geo.Result:
    return geo.soup(models, models[0].parent / "out", data=None)


def test_links_out_are_not_copied_and_told(save: Save, secret: Path, tmp_path: Path) -> None:
    a, b = save("a"), save("b")
    for name in ("helper.py", "tokenizer_extra.json", "vocab_x"):
        (a / name).symlink_to(secret)
    (a / "additional_chat_templates").symlink_to(secret.parent)
    (a / "modeling.py").write_text("own = 1")
    (a / "own.py").symlink_to("modeling.py")
    found = soup(a, b)
    assert holds_secret(tmp_path / "out") == []
    assert (tmp_path / "out" / "own.py").read_text() == "own = 1"
    for name in ("helper.py", "tokenizer_extra.json", "vocab_x", "additional_chat_templates/key"):
        said = f"{a}: {name} is a link that leads out of the folder: it is not copied"
        assert said in found.report.warnings
    assert "helper.py" in found.report.left_out


def test_weights_may_lie_on_another_disk(save: Save, tmp_path: Path) -> None:
    a, b = save("a"), save("b")
    expected = soup(a, b)
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "disk").mkdir()
    (a / "model.safetensors").rename(tmp_path / "disk" / "a")
    (a / "model.safetensors").symlink_to(tmp_path / "disk" / "a")
    assert soup(a, b).report.warnings == expected.report.warnings == []


def test_a_configuration_that_is_a_link_out_is_refused(save: Save, tmp_path: Path) -> None:
    a, b = save("a"), save("b")
    (a / "config.json").rename(tmp_path / "elsewhere.json")
    (a / "config.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UnsupportedError, match=r"config\.json is a link that leads out of the fol"):
        soup(a, b)
    assert not list(tmp_path.glob("out*"))
    assert geo.check([a, b]).report.result is not None  # nothing is copied
    soup(b, a)  # only the donor's is


def test_a_snapshots_own_are_in_the_blobs_of_its_repository(tmp_path: Path, secret: Path) -> None:
    repo = tmp_path / "hub" / "models--org--a"
    part = repo / "snapshots" / "5d0f2e8" / "unet"
    part.mkdir(parents=True)
    (repo / "blobs").mkdir()
    (repo / "blobs" / "abc").write_text("{}")
    (part.parent / "config.json").symlink_to("../../blobs/abc")
    (part / "config.json").symlink_to("../../../blobs/abc")
    (part.parent / "helper.py").symlink_to(secret)
    assert is_own(part.parent, Path("config.json"))
    assert is_own(part, Path("config.json"))
    assert not is_own(part.parent, Path("helper.py"))
    shutil.rmtree(repo / "blobs")
    (repo / "blobs").symlink_to(secret.parent)
    (part.parent / "key").symlink_to("../../blobs/key")
    assert not is_own(part.parent, Path("key"))
    elsewhere = tmp_path / "snapshots" / "a"
    elsewhere.mkdir(parents=True)
    (elsewhere / "key").symlink_to(secret)
    (tmp_path / "blobs").mkdir()
    assert not is_own(elsewhere, Path("key"))


def test_links_out_are_not_pushed(save: Save, secret: Path, tmp_path: Path) -> None:
    soup(save("a"), save("b"))
    out = tmp_path / "out"
    for name in ("notes[1].txt", "figures.png"):
        (out / name).symlink_to(secret)
    with serve_hub(tmp_path / "served") as hub:
        (tmp_path / "served").mkdir()
        hub.tokens["hf_x"] = Token()
        cli = command_line(hub, tmp_path)
        done = succeeded(cli("push", "out", "me/c", HF_TOKEN="hf_x"))
        assert "not pushed, as they are links out of out: figures.png, notes[1].txt" in (
            " ".join((done.stdout + done.stderr).split())
        )
        names = hub.files("me/c").keys()
        assert {"model.safetensors", "config.json"} <= names
        assert not names & {"notes[1].txt", "figures.png"}
        (out / "model.safetensors").rename(tmp_path / "moved")
        (out / "model.safetensors").symlink_to(tmp_path / "moved")
        failed(
            cli("push", "out", "me/c", HF_TOKEN="hf_x"),
            r"out: model\.safetensors is a link that leads out of the folder, and the output needs "
            r"it \(put a copy in its place\)",
        )
    assert holds_secret(tmp_path / "served") == []


def test_finetune_copies_no_link_out_either(family: Path, secret: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(family / "a", base)
    (base / "helper.py").symlink_to(secret)
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"{i} green boats" for i in range(30)))
    found = geo.finetune(
        base,
        tmp_path / "out",
        train_data=geo.EvalData(str(text), seq_len=8),
        training=geo.TrainingConfig(steps=1),
        data=None,
    )
    assert holds_secret(tmp_path / "out") == []
    assert any("helper.py is a link that leads out" in text for text in found.report.warnings)
