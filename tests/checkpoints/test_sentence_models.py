"""Folders of sentence-transformers: every layout, every module with weights, nothing lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import mergekit_geo as geo
from mergekit_geo.checkpoints.module_folders import backbone_of
from mergekit_geo.checkpoints.reference import open_checkpoint
from mergekit_geo.config.reshape import ReshapeConfig
from mergekit_geo.errors import GeoError, IncompatibleError, UnsupportedError
from mergekit_geo.outputs.verify import require_finished
from tests.checkpoints.adapter_models import make_adapter, make_base
from tests.checkpoints.hub_models import make_model
from tests.checkpoints.hub_process import command_line, succeeded
from tests.checkpoints.hub_server import serve_hub

FAST = geo.OutputConfig(fsync=False)
TYPES = "sentence_transformers.models"
VOCABULARY, HIDDEN, EMBEDDED = 12, 8, 4


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def bert(folder: Path, seed: int) -> Path:
    """A small BERT, every parameter drawn at random."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    settings = {"hidden_size": HIDDEN, "intermediate_size": 16, "num_hidden_layers": 1}
    model = BertModel(BertConfig(vocab_size=VOCABULARY, num_attention_heads=2, **settings))
    for parameter in model.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    return folder


def layer(
    folder: Path, seed: int, settings: Mapping[str, object], **shapes: tuple[int, ...]
) -> None:
    """A module with weights."""
    draw = torch.Generator().manual_seed(seed)
    write(folder / "config.json", settings)
    state = {name.replace("_", "."): torch.randn(*s, generator=draw) for name, s in shapes.items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def dense(folder: Path, seed: int) -> None:
    settings = {"in_features": HIDDEN, "out_features": EMBEDDED, "bias": True}
    shapes = {"linear_weight": (EMBEDDED, HIDDEN), "linear_bias": (EMBEDDED,)}
    layer(folder, seed, settings, **shapes)


def list_modules(folder: Path, *modules: tuple[str, str]) -> None:
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"{TYPES}.{kind}"}
        for i, (kind, path) in enumerate(modules)
    ]
    write(folder / "modules.json", entries)


def sentence_model(folder: Path, seed: int, *, backbone: str = "") -> Path:
    """A backbone, the mean of its tokens, Dense, LayerNorm and Normalize."""
    bert(folder / backbone, seed)
    write(folder / backbone / "sentence_bert_config.json", {"max_seq_length": 16})
    write(folder / "config_sentence_transformers.json", {"prompts": {"query": "find: "}})
    write(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    dense(folder / "2_Dense", seed + 10)
    norm = {"norm_weight": (EMBEDDED,), "norm_bias": (EMBEDDED,)}
    layer(folder / "3_LayerNorm", seed + 20, {"dimension": EMBEDDED}, **norm)
    kinds = [("Transformer", backbone), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"),
             ("LayerNorm", "3_LayerNorm"), ("Normalize", "4_Normalize")]  # fmt: skip
    list_modules(folder, *kinds)
    return folder


def state_of(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a folder in float64, by module and name, wherever its backbone is."""
    paths = [path.relative_to(folder) for path in folder.rglob("*.safetensors")]
    return {
        f"{path.parent.name.replace('0_Transformer', '').replace('.', '')}/{name}": tensor.double()
        for path in paths
        for name, tensor in load_file(folder / path).items()
    }


def embeddings(folder: Path, state: Mapping[str, Tensor]) -> Tensor:
    """What sentence-transformers computes of the modules, by hand in float64."""
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig.from_pretrained(folder)).double().eval()
    own = {name.removeprefix("/"): t for name, t in state.items() if name.startswith("/")}
    missing, unexpected = model.load_state_dict(own, strict=False)
    assert not unexpected
    assert all("position_ids" in name for name in missing)
    ids = torch.arange(VOCABULARY).reshape(2, -1)
    with torch.no_grad():
        pooled = model(input_ids=ids).last_hidden_state.mean(1)
        projected = torch.tanh(
            pooled @ state["2_Dense/linear.weight"].T + state["2_Dense/linear.bias"]
        )
        normed = nn.functional.layer_norm(
            projected, (EMBEDDED,), state["3_LayerNorm/norm.weight"], state["3_LayerNorm/norm.bias"]
        )
    return nn.functional.normalize(normed)


def mean(a: Path, b: Path, weight: float = 0.25) -> dict[str, Tensor]:
    one, two = state_of(a), state_of(b)
    assert one.keys() == two.keys()
    return {name: weight * one[name] + (1 - weight) * two[name] for name in one}


LAYOUTS = {
    "now": ("", ""), "before": ("0_Transformer", "0_Transformer"),
    "one of each": ("0_Transformer", ""), "the other way": ("", "0_Transformer"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_module_is_merged_in_either_layout(tmp_path: Path, layout: tuple[str, str]) -> None:
    a, b = (
        sentence_model(tmp_path / name, seed, backbone=place)
        for seed, (name, place) in enumerate(zip("ab", layout, strict=True))
    )
    result = geo.soup([a, b], tmp_path / "out", weights=[1, 3], data=None, output=FAST)
    assert result.out is not None
    assert result.report.warnings == []
    expected, found = mean(a, b), state_of(result.out)
    assert found.keys() == expected.keys()
    reference = embeddings(a / layout[0], expected)
    torch.testing.assert_close(
        embeddings(result.out / layout[0], found), reference, rtol=0, atol=1e-6
    )
    for file in a.rglob("*"):
        inside = file.relative_to(a)
        assert file.is_dir() or (result.out / inside).is_file()
        assert file.suffix != ".json" or (result.out / inside).read_bytes() == file.read_bytes()
    assert Path(layout[0], "model.safetensors") in require_finished(result.out)
    card = (result.out / "README.md").read_text()
    assert "from sentence_transformers import SentenceTransformer\n" in card
    assert 'SentenceTransformer("out")' in card
    assert "library_name: sentence-transformers" in card


def test_a_whole_folder_of_equal_parents_is_theirs_to_the_bit(tmp_path: Path) -> None:
    a = sentence_model(tmp_path / "a", 1, backbone="0_Transformer")
    b = Path(shutil.copytree(a, tmp_path / "b"))
    out = geo.slerp([a, b], tmp_path / "out", t=0.3, data=None, output=FAST).out
    assert out is not None
    one, two = state_of(a), state_of(out)
    assert all(two[name].equal(tensor) for name, tensor in one.items())
    assert one.keys() == two.keys()


@pytest.mark.slow
def test_an_output_in_shards_and_another_dtype_keeps_its_layout(tmp_path: Path) -> None:
    a, b = (sentence_model(tmp_path / n, i, backbone="0_Transformer") for i, n in enumerate("ab"))
    output = geo.OutputConfig(fsync=False, dtype="bfloat16", max_shard_size="1KB")
    out = geo.soup([a, b], tmp_path / "out", data=None, output=output).out
    assert out is not None
    assert len(list((out / "0_Transformer").glob("*.safetensors"))) > 1
    assert json.loads((out / "0_Transformer/config.json").read_text())["dtype"] == "bfloat16"
    assert {info.dtype for info in open_checkpoint(out).tensors.values()} == {"BF16"}
    assert open_checkpoint(out).inside == "0_Transformer"


def routed(folder: Path, seed: int) -> Path:
    """Documents go through a backbone, queries through an embedding of each token."""
    write(folder / "router_config.json", {
        "types": {
            "query_0_StaticEmbedding": f"{TYPES}.StaticEmbedding",
            "document_0_Transformer": f"{TYPES}.Transformer",
            "document_1_Pooling": f"{TYPES}.Pooling",
        },
        "structure": {
            "query": ["query_0_StaticEmbedding"],
            "document": ["document_0_Transformer", "document_1_Pooling"],
        },
    })  # fmt: skip
    bert(folder / "document_0_Transformer", seed)
    write(folder / "document_1_Pooling" / "config.json", {"pooling_mode": "mean"})
    static = folder / "query_0_StaticEmbedding"
    layer(static, seed + 5, {}, embedding_weight=(VOCABULARY, HIDDEN))
    (static / "config.json").unlink()
    (static / "vocab.json").write_text(json.dumps({str(i): i for i in range(VOCABULARY)}))
    list_modules(folder, ("Router", ""), ("Normalize", "1_Normalize"))
    return folder


@pytest.mark.slow
def test_modules_of_a_module_are_merged(tmp_path: Path) -> None:
    a, b = (routed(tmp_path / name, seed) for seed, name in enumerate("ab"))
    assert backbone_of(a) == "document_0_Transformer"
    result = geo.soup([a, b], tmp_path / "out", weights=[1, 3], data=None, output=FAST)
    assert result.out is not None
    found = state_of(result.out)
    for name, tensor in mean(a, b).items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)
    assert {p.relative_to(a) for p in a.rglob("*")} <= {
        p.relative_to(result.out) for p in result.out.rglob("*")
    }
    write(b / "document_1_Pooling" / "config.json", {"pooling_mode": "cls"})
    with pytest.raises(
        IncompatibleError, match=r"1_Pooling/config.json: pooling_mode is 'mean' in"
    ):
        geo.soup([a, b], data=None)
    (b / "query_0_StaticEmbedding" / "vocab.json").write_text(json.dumps({"x": 0}))
    with pytest.raises(IncompatibleError, match=r"query_0_StaticEmbedding: \S+ and \S+ have diff"):
        geo.soup([a, b], data=None)


def asymmetric(folder: Path, seed: int, numbers: tuple[int, int]) -> Path:
    """As early releases save a Router: its folders bear numbers, different each time."""
    bert(folder, seed)
    parts = {f"{number}_Dense": route for number, route in zip(numbers, ("q", "d"), strict=True)}
    for i, name in enumerate(parts):
        dense(folder / "1_Asym" / name, 10 * seed + i)
    settings = {
        "types": dict.fromkeys(sorted(parts), f"{TYPES}.Dense"),
        "structure": {route: [name] for name, route in parts.items()},
    }
    write(folder / "1_Asym" / "config.json", settings)
    list_modules(folder, ("Transformer", ""), ("Asym", "1_Asym"))
    return folder


@pytest.mark.slow
def test_routes_are_matched_by_name(tmp_path: Path) -> None:
    a = asymmetric(tmp_path / "a", 1, (71, 35))
    b = asymmetric(tmp_path / "b", 2, (12, 98))
    result = geo.soup([a, b], tmp_path / "out", data=None, output=FAST)
    assert result.out is not None
    for mine, theirs in ((71, 12), (35, 98)):
        one = load_file(a / "1_Asym" / f"{mine}_Dense" / "model.safetensors")
        two = load_file(b / "1_Asym" / f"{theirs}_Dense" / "model.safetensors")
        found = load_file(result.out / "1_Asym" / f"{mine}_Dense" / "model.safetensors")
        assert all(found[name].equal((one[name] + two[name]) / 2) for name in one)
    settings = json.loads((b / "1_Asym" / "config.json").read_text())
    settings["structure"]["d"] = []
    write(b / "1_Asym" / "config.json", settings)
    with pytest.raises(
        IncompatibleError, match=r"structure is {'d': \['Dense'\], .* and {'d': \[\],"
    ):
        geo.soup([a, b], data=None)


def test_a_backbone_without_weights_is_not_another_module(tmp_path: Path) -> None:
    a = sentence_model(tmp_path / "a", 1, backbone="0_Transformer")
    weights = a / "0_Transformer" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(UnsupportedError, match=r"a/0_Transformer: the weights are pickled"):
        open_checkpoint(a)
    weights.with_name("pytorch_model.bin").unlink()
    with pytest.raises(GeoError, match=r"a/0_Transformer: no safetensors file in it"):
        open_checkpoint(a)


def test_exports_and_checkpoints_of_a_module_are_left_out(tmp_path: Path) -> None:
    a, b = (sentence_model(tmp_path / n, i, backbone="0_Transformer") for i, n in enumerate("ab"))
    write(a / "0_Transformer" / "onnx" / "config.json", {})
    (a / "0_Transformer" / "onnx" / "model.onnx").touch()
    shutil.copytree(a / "2_Dense", a / "2_Dense" / "checkpoint-5")
    (a / "2_Dense" / "other.safetensors").touch()
    result = geo.soup([a, b], tmp_path / "out", data=None, output=FAST)
    assert result.report.left_out == [
        "0_Transformer/onnx/config.json", "0_Transformer/onnx/model.onnx",
        "2_Dense/checkpoint-5/config.json", "2_Dense/checkpoint-5/model.safetensors",
        "2_Dense/other.safetensors",
    ]  # fmt: skip


def test_an_adapter_on_a_backbone_in_a_folder(tmp_path: Path) -> None:
    home = tmp_path / "model"
    base = make_base(home / "0_Transformer")
    adapter = make_adapter(base, tmp_path / "adapter")
    list_modules(home, ("Transformer", "0_Transformer"))
    with pytest.raises(UnsupportedError, match=r"name the module as the base: \S+0_Transformer\+A"):
        open_checkpoint(f"{home}+{adapter}")
    assert open_checkpoint(f"{home}:0_Transformer+{adapter}").adapted is not None


@pytest.mark.slow
def test_a_backbone_in_a_folder_of_a_repository(tmp_path: Path) -> None:
    """Its weights are downloaded once all fits together, exports never."""
    for name in "ab":
        home = tmp_path / "models" / name
        make_model(home / "0_Transformer")
        dense(home / "1_Dense", ord(name))
        (home / "0_Transformer" / "onnx").mkdir()
        (home / "0_Transformer" / "onnx" / "model.onnx").write_bytes(b"x")
        list_modules(home, ("Transformer", "0_Transformer"), ("Dense", "1_Dense"))
    with serve_hub() as hub:
        cli = command_line(hub, tmp_path)
        for name in "ab":
            hub.publish(f"org/{name}", tmp_path / "models" / name)
        succeeded(cli("check", "org/a", "org/b"))
        assert hub.sent("org/a")["0_Transformer/model.safetensors"] > 0  # its header
        succeeded(cli("soup", "org/a", "org/b", "-o", "out", "--no-eval"))
        assert hub.sent("org/a").keys() == {
            "modules.json", "0_Transformer/config.json", "0_Transformer/model.safetensors",
            "1_Dense/config.json", "1_Dense/model.safetensors",
        }  # fmt: skip
        succeeded(cli("check", "org/a", "org/b", HF_HUB_OFFLINE="1"))
    assert geo.read_report(tmp_path / "out").left_out == ["0_Transformer/onnx/model.onnx"]
    geo.soup([tmp_path / "models" / n for n in "ab"], tmp_path / "local", data=None, output=FAST)
    one, two = state_of(tmp_path / "out"), state_of(tmp_path / "local")
    assert all(two[name].equal(tensor) for name, tensor in one.items())
    assert one.keys() == two.keys()


# --- everything at once


def everything(folder: Path, seed: int) -> Path:
    """Whatever has been seen in folders of models."""
    bert(folder, seed)
    list_modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"))
    write(folder / "1_Pooling" / "config.json", {"pooling_mode": "mean"})
    dense(folder / "2_Dense", seed)
    for name in OTHERS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".safetensors"):
            save_file({"w": torch.full((2,), float(seed))}, path)
        else:
            path.write_text('{"format": 1}')
    return folder


OTHERS = [
    ".gitattributes", ".git/HEAD", ".cache/x", "2_Dense/pytorch_model.bin", "2_Dense/notes.txt",
    "LICENSE", "NOTICE", "README.md", "USE_POLICY.md", "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors", "added_tokens.json", "additional_chat_templates/rag.jinja",
    "chat_template.jinja", "checkpoint-7/model.safetensors", "checkpoint-7/optimizer.pt",
    "config_sentence_transformers.json", "custom/__init__.py", "eval/results.csv",
    "figures/loss.png", "flax_model.msgpack", "generation_config.json", "merges.txt",
    "model-q4_k.gguf", "model.fp16.safetensors", "modeling_own.py", "onnx/config.json",
    "onnx/model.onnx", "openvino/openvino_model.bin", "openvino/openvino_model.xml", "optimizer.pt",
    "original/consolidated.00.pth", "preprocessor_config.json", "processor_config.json",
    "pytorch_model.bin", "rng_state.pth", "rust_model.ot", "scheduler.pt", "sentencepiece.model",
    "special_tokens_map.json", "text_encoder/model.safetensors", "tf_model.h5", "thesis.json",
    "trainer_state.json", "training_args.bin", "vae/diffusion_pytorch_model.safetensors",
    "video_preprocessor_config.json", "vocab.txt", "deep/er/model.safetensors",
]  # fmt: skip


def test_each_file_of_the_donor_is_copied_merged_or_named(tmp_path: Path) -> None:
    a, b = (everything(tmp_path / name, seed) for seed, name in enumerate("ab"))
    result = geo.soup([a, b], tmp_path / "out", data=None, output=FAST)
    assert result.out is not None
    named = result.report.left_out
    for path in (path for path in a.rglob("*") if path.is_file()):
        file = path.relative_to(a).as_posix()
        is_named = file in named or f"{file.partition('/')[0]}/" in named
        there = result.out / file
        if file.endswith(".safetensors") and there.is_file():
            assert not is_named
            one, two, found = (load_file(f / file) for f in (a, b, result.out))
            assert all(found[n].equal((one[n] + two[n]) / 2) for n in found)
        elif is_named:
            assert file == "README.md" or not there.is_file()
        else:
            assert there.read_bytes() == path.read_bytes()
    told = geo.check([a, b]).measurements.files
    assert told is not None
    assert told.left_out == named
    assert told.merged == ["2_Dense/model.safetensors", "model.safetensors"]
    copied = {path.relative_to(result.out).as_posix() for path in result.out.rglob("*")}
    assert set(told.copied) <= copied


def test_folders_of_weights_beside_the_models_are_told(tmp_path: Path) -> None:
    a, b = (bert(tmp_path / name, seed) for seed, name in enumerate("ab"))
    for folder, names in ((a, ("vae", "own")), (b, ("vae", "extra/deep", "checkpoint-3"))):
        for name in names:
            (folder / name).mkdir(parents=True)
            save_file({"w": torch.ones(2)}, folder / name / "model.safetensors")
    for warnings in (
        geo.check([a, b]).report.warnings,
        geo.soup([a, b], tmp_path / "out", data=None, output=FAST).report.warnings,
    ):
        assert f"weights in extra/deep of {b} are left out: {a} has none there" in warnings
        (shared,) = [text for text in warnings if "are not merged" in text]
        assert shared == (
            "weights in vae are not merged: merge each folder by its name, such as "
            f"geo-merge soup {a}/vae {b}/vae -o OUT/vae"
        )
    assert geo.read_report(tmp_path / "out").left_out == ["own/", "vae/"]


def test_a_stack_does_not_say_whose_modules(tmp_path: Path) -> None:
    models = [str(sentence_model(tmp_path / name, seed)) for seed, name in enumerate("ab")]
    recipe = {
        "merge_method": "passthrough",
        "slices": [{"sources": [{"model": name, "layer_range": [0, 1]}]} for name in models],
    }
    with pytest.raises(UnsupportedError, match=r"do not say whose modules, and .* has weights"):
        geo.run(recipe, tmp_path / "out", data=None, sharpness="off")
    with pytest.raises(UnsupportedError, match=r"none of the modules after it, and 2_Dense has w"):
        geo.soup(models, reshape=ReshapeConfig(part="layers"), data=None)
    assert not (tmp_path / "out").exists()
