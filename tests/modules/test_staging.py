"""What is run are the weights that are merged: no other file of a folder is loaded."""

import gc
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import mergekit_geo as geo
from mergekit_geo.config.measures import Compute
from mergekit_geo.modules.load import _loaded, load_model

CPU = Compute(device="cpu")


def llama(folder: Path, seed: int, **options: object) -> Path:
    torch.manual_seed(seed)
    shape = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "vocab_size": 32}
    model = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2))
    model.save_pretrained(folder, **options)
    return folder


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.mark,)


def beside(folder: Path, mark: Path, seed: int) -> None:
    """Every other thing that transformers takes for weights, of another model."""
    other = llama(folder.parent / "other", seed)
    state = load_file(other / "model.safetensors")
    torch.save({**state, "trap": Trap(mark)}, folder / "pytorch_model.bin")
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(other), "r": 2})
    )
    torch.save(Trap(mark), folder / "adapter_model.bin")
    (folder / ".metadata").write_bytes(pickle.dumps(Trap(mark)))


def same(model: torch.nn.Module, state: dict[str, Tensor]) -> bool:
    found = model.state_dict()
    return all(torch.equal(found[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("shape", ["single", "loose", "shards"])
def test_other_weights_in_a_folder_are_not_loaded(tmp_path: Path, shape: str) -> None:
    mark = tmp_path / "mark"
    state = load_file(llama(tmp_path / "whole", 0) / "model.safetensors")
    options = {"max_shard_size": "4KB"} if shape == "shards" else {}
    folder = llama(tmp_path / "m", 0, **options)
    beside(folder, mark, 1)
    if shape == "loose":  # with an adapter's configuration it would be an adapter
        (folder / "model.safetensors").rename(folder / "weights.safetensors")
        (folder / "adapter_config.json").unlink()
    else:
        save_file({}, folder / "adapter_model.safetensors")
    assert same(load_model(folder, CPU), state)
    assert not mark.exists()


@pytest.mark.parametrize(
    "stated",
    [
        {"transformers_weights": "other.safetensors"},
        {"transformers_weights": "adapter_model.bin"},
        {"transformers_weights": "nowhere"},
        {"configuration_files": ["config.4.0.0.json"]},
    ],
)
def test_weights_and_configurations_that_are_named_elsewhere(
    tmp_path: Path, stated: dict[str, object]
) -> None:
    a, b = llama(tmp_path / "a", 0), llama(tmp_path / "b", 1)
    state = load_file(a / "model.safetensors")
    save_file(
        {name: tensor + 1 for name, tensor in state.items()},
        a / "other.safetensors",
        metadata={"format": "pt"},
    )
    config = json.loads((a / "config.json").read_text())
    (a / "config.4.0.0.json").write_text(json.dumps({**config, "hidden_size": 4}))
    (a / "config.json").write_text(json.dumps({**config, **stated}))
    assert same(load_model(a, CPU), state)
    report = geo.soup([a, b], out=tmp_path / "out", data=None).report
    warned = [text for text in report.warnings if "says that its weights are in" in text]
    assert len(warned) == ("transformers_weights" in stated)
    merged = LlamaForCausalLM.from_pretrained(tmp_path / "out")
    wanted = load_file(b / "model.safetensors")
    for name, tensor in merged.state_dict().items():
        if name in state:
            assert torch.allclose(tensor, (state[name] + wanted[name]) / 2)


def test_a_shard_by_the_name_of_a_pickle_is_not_unpickled(tmp_path: Path) -> None:
    folder = llama(tmp_path / "m", 0, max_shard_size="4KB")
    index = folder / "model.safetensors.index.json"
    stored = json.loads(index.read_text())
    shards = sorted(set(stored["weight_map"].values()))
    assert len(shards) > 1
    (folder / shards[0]).rename(folder / "a.bin")
    places = stored["weight_map"].items()
    stored["weight_map"] = {n: "a.bin" if s == shards[0] else s for n, s in places}
    index.write_text(json.dumps(stored))
    state = load_file(llama(tmp_path / "whole", 0) / "model.safetensors")
    assert same(load_model(folder, CPU), state)


def test_a_folder_is_staged_for_a_while_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    model = load_model(llama(tmp_path / "m", 0), CPU)
    (tmp_path / "m/config.json").write_text('{"model_type": "nosuch"}')
    with pytest.raises(geo.GeoError, match=r"m: transformers cannot load the model: ValueError"):
        load_model(tmp_path / "m", CPU)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert torch.isfinite(model(input_ids=torch.arange(4).view(1, -1)).logits).all()


def test_weights_that_stay_on_the_disk_are_found_as_long_as_the_model_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an accelerator's are that hold only a part of them."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    folder, ids = llama(tmp_path / "m", 0), torch.arange(4).view(1, -1)
    places = {"model.layers.1": "disk"}
    for part in ("model.embed_tokens", "model.layers.0", "model.norm", "model.rotary_emb"):
        places[part] = "cpu"
    options = {"output_loading_info": True, "device_map": {**places, "lm_head": "cpu"}}
    model, _ = _loaded(folder, None, CPU, {"dtype": torch.float32, **options})
    wanted = load_model(folder, CPU)(input_ids=ids).logits
    assert torch.equal(model(input_ids=ids).logits, wanted)
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    del model
    gc.collect()
    assert list((tmp_path / "tmp").iterdir()) == []
