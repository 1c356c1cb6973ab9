"""What names a model: single files, folders in folders and in repositories."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.checkpoints.reference import open_checkpoint, split_reference
from mergekit_geo.cli.app import app
from mergekit_geo.errors import FormatError, GeoError, NotFoundError, UnsupportedError
from mergekit_geo.files.hub_id import HubId, split_subfolder
from mergekit_geo.outputs.verify import require_finished
from tests.checkpoints.adapter_models import make_adapter, make_base
from tests.checkpoints.hub_process import command_line, succeeded
from tests.checkpoints.hub_server import serve_hub
from tests.conftest import Save

FAST = geo.OutputConfig(fsync=False)


def weights(path: Path, value: float, **metadata: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"w": torch.full((2, 3), value), "n": torch.arange(3)}, path, metadata or None)
    return path


# --- single files


def test_single_files_are_merged_into_a_folder(tmp_path: Path) -> None:
    stated = {"format": "pt", "modelspec.title": "one", "sshs_model_hash": "0123"}
    a = weights(tmp_path / "a.safetensors", 1.0, **stated)
    b = weights(tmp_path / "b.safetensors", 4.0, format="pt", title="two")
    result = geo.soup([a, b], tmp_path / "out", weights=[2, 1], output=FAST)
    assert result.out is not None
    found = load_file(result.out / "model.safetensors")
    assert found["w"].equal(torch.full((2, 3), 2.0))
    assert found["n"].equal(torch.arange(3))
    with safe_open(result.out / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "modelspec.title": "one"}
    assert not (result.out / "config.json").exists()
    assert Path("model.safetensors") in require_finished(result.out)
    assert result.report.left_out == []
    (missing,) = [entry for entry in result.report.not_measured if entry.what == "losses"]
    assert "a single file has no configuration and no tokenizer" in missing.why


def test_the_command_of_single_files_makes_the_same_again(tmp_path: Path) -> None:
    files = [weights(tmp_path / f"{n}.safetensors", float(i)) for i, n in enumerate("ab")]
    result = geo.soup(files, tmp_path / "out", data=None, output=FAST)
    assert result.report.provenance is not None
    words = shlex.split(result.report.provenance.command)
    assert words[:4] == ["geo-merge", "soup", *map(str, files)]
    words[words.index("-o") + 1] = str(tmp_path / "again")
    assert CliRunner().invoke(app, [*words[1:], "--no-eval"]).exit_code == 0
    one, two = (load_file(tmp_path / n / "model.safetensors") for n in ("out", "again"))
    assert one["w"].equal(two["w"])


def test_a_file_that_is_its_folders_model_has_its_configuration(save: Save) -> None:
    a, b = save("a"), save("b")
    result = geo.soup(
        [a / "model.safetensors", b / "model.safetensors"], a.parent / "out", data=None, output=FAST
    )
    assert result.out is not None
    assert json.loads((result.out / "config.json").read_text())["model_type"] == "llama"


def test_a_file_beside_a_model_is_not_that_model(save: Save) -> None:
    """Its folder's configuration belongs to model.safetensors, and so do other files."""
    folder = save("a")
    other = weights(folder / "other.safetensors", 1.0)
    found = open_checkpoint(other)
    assert (found.folder, found.config, set(found.tensors)) == (None, {}, {"w", "n"})
    assert "w" not in open_checkpoint(folder).tensors
    several = save("b")
    (several / "model.safetensors").rename(several / "one.safetensors")
    weights(several / "two.safetensors", 1.0)
    assert open_checkpoint(several / "one.safetensors").config == {}


@pytest.mark.slow
def test_a_file_runs_by_the_configuration_of_a_model_beside_it(small: Path, tmp_path: Path) -> None:
    file = tmp_path / "b-alone.safetensors"
    shutil.copy(small / "b" / "model.safetensors", file)
    data = geo.EvalData(max_examples=2)
    by_file, by_folder = (
        geo.soup([small / "a", b], tmp_path / b.stem, data=data, sharpness="off", output=FAST)
        for b in (file, small / "b")
    )
    one, two = ([x.loss for x in r.measurements.losses] for r in (by_file, by_folder))
    assert one == two


def test_shards_are_no_models(tmp_path: Path) -> None:
    shard = "model-00001-of-00002.safetensors"
    weights(tmp_path / shard, 1.0)
    index = {"weight_map": {"w": shard, "n": shard}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FormatError, match=r"one shard of a model \(give its folder, "):
        open_checkpoint(tmp_path / shard)


def test_other_files_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(NotFoundError, match=r"a file, and no \.safetensors one"):
        open_checkpoint(tmp_path / "notes.txt")
    with pytest.raises(NotFoundError, match=r"models/gone.safetensors: no file /\S+gone"):
        open_checkpoint("models/gone.safetensors")  # which could be a repository's name
    factors = tmp_path / "lora.safetensors"
    save_file({"q.lora_A.weight": torch.ones(1, 2), "q.lora_B.weight": torch.ones(2, 1)}, factors)
    with pytest.raises(UnsupportedError, match="factors of an adapter"):
        open_checkpoint(factors)


def test_the_file_of_an_adapter_is_the_adapter(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "adapter")
    whole = open_checkpoint(f"{base}+{adapter}")
    by_file = open_checkpoint(f"{base}+{adapter / 'adapter_model.safetensors'}")
    assert by_file.adapted is not None
    assert by_file.tensors == whole.tensors


# --- folders in folders


def test_a_folder_in_a_folder(save: Save, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"pipe-{name}").mkdir()
        save(name).rename(tmp_path / f"pipe-{name}" / "unet")
    models = [f"{tmp_path}/pipe-{name}:unet" for name in "ab"]
    result = geo.soup(models, tmp_path / "out", data=None, output=FAST)
    by_path = geo.soup([m.replace(":", "/") for m in models], data=None)
    assert result.out is not None
    assert by_path.state is not None
    found = load_file(result.out / "model.safetensors")
    assert all(tensor.equal(by_path.state[name]) for name, tensor in found.items())
    assert [model.name for model in result.report.models] == models
    card = (result.out / "README.md").read_text()
    assert "geo-merge soup ../pipe-a:unet ../pipe-b:unet -o ../out-again" in card
    assert "- model: ../pipe-a:unet" in card


def test_a_recipe_names_folders_in_folders(save: Save, tmp_path: Path) -> None:
    save("unet").rename(tmp_path / "inner")
    (tmp_path / "pipe").mkdir()
    (tmp_path / "inner").rename(tmp_path / "pipe" / "unet")
    recipe = {
        "merge_method": "linear",
        "models": [
            {"model": f"{tmp_path}/pipe:unet", "parameters": {"weight": 1}},
            {"model": str(save("b")), "parameters": {"weight": 1}},
        ],
    }
    (tmp_path / "recipe.yml").write_text(yaml.safe_dump(recipe))
    result = geo.run(tmp_path / "recipe.yml", tmp_path / "out", data=None, output=FAST)
    assert result.report.models[0].name == f"{tmp_path}/pipe:unet"


def test_a_name_with_a_colon_wins(save: Save, tmp_path: Path) -> None:
    whole = save("pipe:unet", {"whole": torch.ones(2)})
    save("pipe", {"outer": torch.ones(2)})
    save("pipe/unet", {"inner": torch.ones(2)})
    assert set(open_checkpoint(whole).tensors) == {"whole"}
    assert set(open_checkpoint(f"{tmp_path}/./pipe:unet").tensors) == {"whole"}
    whole.rename(tmp_path / "elsewhere")
    assert set(open_checkpoint(f"{tmp_path}/pipe:unet").tensors) == {"inner"}


@pytest.mark.slow
def test_files_in_a_repository(tmp_path: Path) -> None:
    """Nothing else is downloaded, nor the file before all fits together."""
    home = tmp_path / "models"
    for i, name in enumerate(("one", "below/two", "model-00001-of-00002", "other")):
        weights(home / f"{name}.safetensors", float(i))
    with serve_hub() as hub:
        cli = command_line(hub, tmp_path)
        hub.publish("org/a", home)
        models = "org/a:one.safetensors", "org/a@main:below/two.safetensors"
        succeeded(cli("check", *models))
        succeeded(cli("soup", *models, "-o", "out"))
        assert hub.sent("org/a").keys() == {"one.safetensors", "below/two.safetensors"}
        said = " ".join(cli("check", "org/a:gone.safetensors", models[0]).stderr.split())
        assert "org/a has no file gone.safetensors (files in it: below/two.safetensors, mod" in said
        said = " ".join(cli("check", "org/a:model-00001-of-00002.safetensors").stderr.split())
        assert "this is one shard of a model (give its folder, org/a)" in said
        succeeded(cli("check", *models, HF_HUB_OFFLINE="1"))
    assert load_file(tmp_path / "out" / "model.safetensors")["w"].equal(torch.full((2, 3), 0.5))
    report = geo.read_report(tmp_path / "out")
    assert [model.name for model in report.models] == list(models)
    assert all(model.revision for model in report.models)
    named = open_checkpoint(f"{home}:below/two.safetensors")
    assert (named.folder, set(named.tensors)) == (None, {"w", "n"})


def test_what_is_not_in_a_folder(save: Save) -> None:
    folder = save("a")
    (folder / "vae").mkdir()
    with pytest.raises(NotFoundError, match=r"a has no folder unet \(folders in it: vae\)"):
        open_checkpoint(f"{folder}:unet")
    for outside in ("../b", "/etc", "..\\b"):
        with pytest.raises(GeoError, match="not a Hub id either"):
            open_checkpoint(f"{folder}:{outside}")


@pytest.mark.parametrize("path", ["C:\\models\\a", "C:/models/a", "c:\\a", ":unet", "a:", "a:.."])
def test_no_folder_in_a_folder(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drive letter is none, even beside a folder that is called like it."""
    monkeypatch.chdir(tmp_path)
    for name in ("C", "c", "a"):
        (tmp_path / name).mkdir()
    assert split_subfolder(path) is None
    assert HubId.parse(path) is None


def test_an_adapter_on_a_folder_in_a_folder(tmp_path: Path) -> None:
    base = make_base(tmp_path / "outer" / "base")
    adapter = make_adapter(base, tmp_path / "run" / "checkpoint-5")
    text = f"{tmp_path}/outer:base+{tmp_path}/run:checkpoint-5"
    found = open_checkpoint(text)
    assert split_reference(text) == (f"{tmp_path}/outer:base", f"{tmp_path}/run:checkpoint-5")
    assert found.tensors == open_checkpoint(f"{base}+{adapter}").tensors


def test_a_recipe_of_a_mapping_pins_a_folder_in_a_repository() -> None:
    from mergekit_geo.recipes.reference import reference

    said = {"model": {"path": "org/a:unet", "revision": "v1"}, "lora": "org/b:last"}
    assert reference(said) == "org/a@v1:unet+org/b:last"
