"""Pipelines of diffusers: every component is merged, copied, or refused by name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import mergekit_geo as geo
from mergekit_geo.checkpoints.content import content_digest
from mergekit_geo.config.reshape import ReshapeConfig
from mergekit_geo.errors import GeoError
from mergekit_geo.outputs.verify import require_finished
from tests.checkpoints.hub_process import command_line, succeeded
from tests.checkpoints.hub_server import serve_hub

FAST = geo.OutputConfig(fsync=False)
STEM = "diffusion_pytorch_model"
CLASSES = {
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
WEIGHTS = {"text_encoder": "model", "unet": STEM, "vae": STEM}


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def change(path: Path, **values: object) -> None:
    write(path, {**json.loads(path.read_text()), **values})


def pipeline(folder: Path, seed: int) -> Path:
    """Files as diffusers writes them."""
    write(folder / "model_index.json", {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1", **CLASSES,
        "feature_extractor": [None, None], "requires_safety_checker": False, "sizes": [8, 8],
    })  # fmt: skip
    write(folder / "scheduler" / "scheduler_config.json", {"prediction_type": "epsilon", "beta": 1})
    write(folder / "tokenizer" / "vocab.json", {"a": 0, "b": 1})
    draw = torch.Generator().manual_seed(seed)
    for place, stem in WEIGHTS.items():
        library, kind = CLASSES[place]
        named = {"_class_name": kind} if library == "diffusers" else {"architectures": ["OwnModel"]}
        write(folder / place / "config.json", {**named, "size": 8})
        state = {n: torch.randn(8, 4, generator=draw) for n in ("conv.weight", "mid.0.weight")}
        save_file(state, folder / place / f"{stem}.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    return pipeline(tmp_path / "a", 1), pipeline(tmp_path / "b", 2)


def state_of(folder: Path) -> dict[str, Tensor]:
    return {
        f"{file.parent.name}.{name}": tensor.double()
        for file in folder.rglob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def mean(a: Path, b: Path) -> dict[str, Tensor]:
    one, other = state_of(a), state_of(b)
    return {name: 0.25 * one[name] + 0.75 * other[name] for name in one}


def test_every_component_is_merged_and_the_rest_is_copied(two: tuple[Path, Path]) -> None:
    a, b = two
    expected = mean(a, b)
    for name in (f"unet/{STEM}.fp16.safetensors", "unet/old.bin", "vae/notes.txt", "sd.ckpt"):
        (a / name).write_bytes(b"another variant")
    result = geo.soup(two, a.parent / "out", weights=[1, 3], data=None, output=FAST)
    assert result.out is not None
    torch.testing.assert_close(state_of(result.out), expected, rtol=0, atol=1e-6)
    assert not any(entry.command for entry in result.report.not_measured)
    assert result.report.left_out == ["sd.ckpt", f"unet/{STEM}.fp16.safetensors", "unet/old.bin"]
    ours = {"README.md", "merge.json", "report.json", "report.html"}
    assert files(result.out) - ours == files(a) - {*result.report.left_out}
    for file in ("model_index.json", "vae/notes.txt", "scheduler/scheduler_config.json"):
        assert (result.out / file).read_bytes() == (a / file).read_bytes()
    card = (result.out / "README.md").read_text()
    assert "from diffusers import DiffusionPipeline\n\nmodel = DiffusionPipeline.from_pretr" in card
    assert "library_name: diffusers" in card
    assert Path("vae", f"{STEM}.safetensors") in require_finished(result.out)
    digest = content_digest(result.out)
    save_file({"conv.weight": torch.ones(8, 4)}, result.out / "vae" / f"{STEM}.safetensors")
    assert content_digest(result.out) != digest
    with pytest.raises(GeoError, match=r"incomplete: vae.mid.0.weight is missing"):
        require_finished(result.out)


REFUSED = {
    "a class": ("model_index.json", {"unet": ["diffusers", "UNet2DModel"]},
                r"unet is UNet2DConditionModel in \S+a and UNet2DModel in \S+b"),
    "a class in its settings": ("unet/config.json", {"_class_name": "UNet2DModel"},
                                r"\S+a/unet is UNet2DConditionModel, \S+b/unet is UNet2DModel"),
    "what is predicted": ("scheduler/scheduler_config.json", {"prediction_type": "v_prediction"},
                          r"prediction_type is 'epsilon' in \S+a and 'v_prediction' in \S+b"),
    "a vocabulary": ("tokenizer/vocab.json", {"a": 1, "b": 0}, r"tokenizer: .* 'a' is 0 and 1"),
    "a folder outside": ("model_index.json", {"../a": ["x", "Y"]}, r"names '../a', a path outside"),
    "a folder that is gone": ("model_index.json", {"gone": ["x", "Y"]},
                              r"model_index.json names gone \(Y\), which is missing"),
    "no components": ("model_index.json", dict.fromkeys(CLASSES),
                      r"no component of model_index.json has weights"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "values", "message"), REFUSED.values(), ids=REFUSED)
def test_pipelines_that_do_not_fit_are_refused(
    two: tuple[Path, Path], file: str, values: dict[str, Any], message: str
) -> None:
    change(two[1] / file, **values)
    with pytest.raises(GeoError, match=message):
        geo.soup(two, data=None)


def test_shards_and_dtype_of_components(two: tuple[Path, Path]) -> None:
    output = geo.OutputConfig(fsync=False, dtype="bfloat16", max_shard_size="100")
    out = geo.slerp(two, two[0].parent / "out", t=0.3, data=None, output=output).out
    assert out is not None
    index = json.loads((out / "unet" / f"{STEM}.safetensors.index.json").read_text())
    assert {*index["weight_map"]} == {"conv.weight", "mid.0.weight"}
    assert (out / "text_encoder" / "model.safetensors.index.json").is_file()
    assert json.loads((out / "text_encoder" / "config.json").read_text())["dtype"] == "bfloat16"
    assert "dtype" not in json.loads((out / "unet" / "config.json").read_text())
    assert state_of(out).keys() == state_of(two[0]).keys()


def test_a_component_that_one_lacks_is_copied_if_asked(two: tuple[Path, Path]) -> None:
    shutil.rmtree(two[1] / "vae")
    change(two[1] / "model_index.json", vae=[None, None])
    with pytest.raises(GeoError, match=r"vae \(2 tensors, .*: --allow-missing-parts copies it"):
        geo.soup(two, data=None)
    allowed = ReshapeConfig(allow_missing_parts=True)
    out = geo.soup(two, two[0].parent / "out", reshape=allowed, data=None, output=FAST).out
    assert out is not None
    found, holder = state_of(out), state_of(two[0])
    assert all(found[name].equal(holder[name]) for name in holder if name.startswith("vae."))
    assert not found["unet.conv.weight"].equal(holder["unet.conv.weight"])
    assert (out / "vae" / "config.json").is_file()
    with pytest.raises(GeoError, match=r"vae is in \S+a and not in \S+b \(name \S+a first: the"):
        geo.soup(two[::-1], reshape=allowed, data=None)


def test_a_component_is_a_part_and_a_filter(two: tuple[Path, Path]) -> None:
    a, b = map(str, two)
    told = geo.check(two).measurements
    assert {entry.name for entry in told.parts} == {*WEIGHTS}
    only = geo.soup(
        two, two[0].parent / "out", reshape=ReshapeConfig(part="unet"), data=None, output=FAST
    )
    assert only.out is not None
    assert not (only.out / "config.json").exists()
    part = state_of(only.out)
    recipe = {
        "merge_method": "linear",
        "models": [
            {"model": a, "parameters": {"weight": [{"filter": "unet", "value": 1}, {"value": 3}]}},
            {"model": b, "parameters": {"weight": 1}},
        ],
    }
    filtered = geo.run(recipe, data=None).state
    one, other = state_of(two[0]), state_of(two[1])
    for name, tensor in one.items():
        weight = 0.5 if name.startswith("unet.") else 0.75
        expected = weight * tensor + (1 - weight) * other[name]
        torch.testing.assert_close(filtered[name].double(), expected, rtol=0, atol=1e-6)
        kept = expected if name.startswith("unet.") else tensor
        torch.testing.assert_close(part[name], kept, rtol=0, atol=1e-6)


def test_a_pipeline_and_one_model(two: tuple[Path, Path]) -> None:
    message = r"a is a whole pipeline \(model_index.json\), and \S+unet is one model: name a comp"
    for models in ([two[0], two[1] / "unet"], [two[1] / "unet", two[0]]):
        with pytest.raises(GeoError, match=message):
            geo.soup(models, data=None)
    state = geo.soup([f"{folder}:unet" for folder in two], data=None).state
    assert state is not None
    assert {*state} == {"conv.weight", "mid.0.weight"}


def test_pickled_components_are_refused(two: tuple[Path, Path]) -> None:
    file = two[1] / "vae" / f"{STEM}.safetensors"
    file.rename(file.with_suffix(".bin"))
    message = r"weights of vae are pickled .*diffusers as d; .* \S+b b-safetensors"
    with pytest.raises(GeoError, match=message):
        geo.soup(two, data=None)


def test_what_the_output_has_of_the_first_is_told(two: tuple[Path, Path]) -> None:
    change(two[1] / "model_index.json", scheduler=["diffusers", "PNDMScheduler"], tokenizer=None)
    change(two[1] / "scheduler" / "scheduler_config.json", beta=2)
    change(two[1] / "vae" / "config.json", size=16)
    said = geo.check(two).report.warnings
    for text in (
        r"scheduler is DDIMScheduler in \S+a and PNDMScheduler in \S+b; the output has the first",
        r"scheduler/scheduler_config.json: beta is 1 in \S+a and 2 in \S+b; the output has the",
        r"tokenizer is in \S+a and not in \S+b; the output has it",
        r"config.json: size is 8 in \S+a/vae and 16 in \S+b/vae; the output has the first model's",
    ):
        assert any(re.match(text, one) for one in said), text


@pytest.mark.slow
def test_names_of_earlier_releases_are_matched(tmp_path: Path) -> None:
    """Text encoders of transformers 4 have a prefix, and a buffer."""
    from transformers import CLIPTextConfig, CLIPTextModel

    folders = [pipeline(tmp_path / name, seed) for seed, name in enumerate("ab")]
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 9}
    for folder in folders:
        config = CLIPTextConfig(num_attention_heads=2, max_position_embeddings=4, **sizes)
        CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    file = folders[1] / "text_encoder" / "model.safetensors"
    old = {f"text_model.{name}": tensor for name, tensor in load_file(file).items()}
    ids = {"text_model.embeddings.position_ids": torch.arange(4)[None]}
    save_file({**old, **ids}, file, {"format": "pt"})
    state = geo.soup(folders, data=None).state
    assert state is not None
    one = load_file(folders[0] / "text_encoder" / "model.safetensors")
    for name, tensor in one.items():
        expected = (tensor + old[f"text_model.{name}"]) / 2
        torch.testing.assert_close(state[f"text_encoder.{name}"], expected)


@pytest.mark.slow
def test_pipelines_in_repositories(two: tuple[Path, Path], tmp_path: Path) -> None:
    """Weights are downloaded once all fits together, and only those that are read."""
    (two[0] / "unet" / f"{STEM}.fp16.safetensors").write_bytes(b"x" * 100)
    local = geo.soup(two, tmp_path / "local", data=None, output=FAST).out
    assert local is not None
    with serve_hub() as hub:
        cli = command_line(hub, tmp_path)
        for folder in two:
            hub.publish(f"org/{folder.name}", folder)
        succeeded(cli("check", "org/a", "org/b"))
        assert not [file for file, sent in hub.sent("org/a").items() if "fp16" in file]
        succeeded(cli("soup", "org/a", "org/b", "-o", "out", "--no-eval"))
        succeeded(cli("soup", "org/a:unet", "org/b:unet", "-o", "unet", "--no-eval"))
        succeeded(cli("check", "org/a", "org/b", HF_HUB_OFFLINE="1"))
        assert {*hub.sent("org/a")} == files(two[0]) - {f"unet/{STEM}.fp16.safetensors"}
    one, other = state_of(local), state_of(tmp_path / "out")
    assert all(tensor.equal(other[name]) for name, tensor in one.items())
    assert geo.read_report(tmp_path / "out").left_out == [f"unet/{STEM}.fp16.safetensors"]
