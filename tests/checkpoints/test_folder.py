"""Reading safetensors folders: what is there, and every way a folder can be unsound."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.dtypes import bytes_of
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.checkpoints.index import INDEX, SINGLE, read_index
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.checkpoints.reference import open_checkpoint
from mergekit_geo.errors import FormatError, NotFoundError, UnsupportedError
from tests.conftest import Save

EVERY_DTYPE = {
    "bf16": torch.randn(5, 3).bfloat16(),
    "f16": torch.randn(7).half(),
    "f32": torch.randn(2, 2),
    "f64": torch.randn(3).double(),
    "i64": torch.arange(4),
    "u8": torch.arange(9, dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "scalar": torch.tensor(2.5),
    "empty": torch.empty(0, 4),
}


def read_whole(checkpoint: Checkpoint, name: str, like: Tensor) -> Tensor:
    out = torch.empty(like.numel(), dtype=like.dtype)
    checkpoint.read(name, 0, like.numel(), bytes_of(out))
    return out.reshape(like.shape)


def test_every_dtype_is_read_to_the_bit(save: Save) -> None:
    checkpoint = open_folder(save("m", EVERY_DTYPE))
    for name, tensor in EVERY_DTYPE.items():
        assert checkpoint.tensors[name].shape == tuple(tensor.shape)
        assert read_whole(checkpoint, name, tensor).equal(tensor), name


def test_chunks_are_read_from_their_place(save: Save) -> None:
    checkpoint = open_folder(save("m", EVERY_DTYPE))
    out = torch.zeros(8, dtype=torch.bfloat16)
    checkpoint.read("bf16", 4, 11, bytes_of(out))
    assert out[:7].equal(EVERY_DTYPE["bf16"].flatten()[4:11])
    assert out[7] == 0


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    shard(tmp_path)
    checkpoint = open_folder(tmp_path)
    assert sorted(checkpoint.tensors) == ["a", "b"]
    assert read_whole(checkpoint, "b", torch.empty(3)).tolist() == [1, 1, 1]


def shard(folder: Path, weight_map: dict[str, str] | None = None) -> None:
    save_file({"a": torch.zeros(2)}, folder / "one.safetensors")
    save_file({"b": torch.ones(3)}, folder / "two.safetensors")
    default = {"a": "one.safetensors", "b": "two.safetensors"}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map or default}))


def test_state_dict_is_a_checkpoint_and_ties_are_listed_once() -> None:
    tensor = torch.randn(4)
    checkpoint = of_state({"embed": tensor, "head": tensor, "other": torch.ones(4)}, "m")
    assert list(checkpoint.tensors) == ["embed", "other"]
    out = torch.empty(2)
    checkpoint.read("embed", 1, 3, bytes_of(out))
    assert out.equal(tensor[1:3])


def test_module_is_a_checkpoint() -> None:
    module = torch.nn.Linear(2, 3)
    assert open_checkpoint(module).tensors["weight"].shape == (3, 2)


def test_missing_folder_tells_what_was_tried() -> None:
    with pytest.raises(NotFoundError, match=r"no folder /.*/nowhere, and not a Hub id either"):
        open_checkpoint("./nowhere")


def test_file_instead_of_folder(save: Save) -> None:
    with pytest.raises(NotFoundError, match=r"a file, and no \.safetensors one \(give its folder"):
        open_checkpoint(save("m") / "config.json")


def test_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FormatError, match="no safetensors file in it"):
        open_folder(tmp_path)


def test_a_folder_of_folders_names_them(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-5").mkdir()
    save_file({"w": torch.ones(2)}, tmp_path / "checkpoint-5/model.safetensors")
    with pytest.raises(FormatError, match=r"some are in checkpoint-5 \(name the folder of one"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(("file", "way"), [("m.gguf", "it was made from"), ("m.h5", "from_tf")])
def test_other_formats_are_named(tmp_path: Path, file: str, way: str) -> None:
    (tmp_path / file).write_bytes(b"GGUF")
    for place in (tmp_path, tmp_path / file):
        with pytest.raises(UnsupportedError, match=rf"{file} is of another format.*{way}"):
            open_checkpoint(place)


FACTORS = ("unet.to_q.lora_A.weight", "unet.to_q.lora_B.weight", "unet.to_q.alpha")


def test_factors_without_a_model(save: Save) -> None:
    state = {name: torch.ones(2) for name in FACTORS}
    with pytest.raises(UnsupportedError, match=r"factors of an adapter \(unet.to_q.lora_A.*fuse_"):
        open_checkpoint(save("m", state))


def test_the_state_of_a_peft_model(save: Save) -> None:
    own = "base_model.model.q_proj"
    state = {
        f"{own}.base_layer.weight": torch.ones(2),
        f"{own}.lora_A.default.weight": torch.ones(1),
    }
    with pytest.raises(UnsupportedError, match=r"an adapter apart .*merge_and_unload"):
        open_checkpoint(save("m", state))


def test_pickle_is_refused_with_the_conversion(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UnsupportedError, match=r"pickled \(pytorch_model.bin\).*python -c"):
        open_folder(tmp_path)


def test_adapter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    save_file({"a": torch.ones(1)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UnsupportedError, match=r"adapter, not a whole model .*BASE\+"):
        open_folder(tmp_path)


QUANTISED = {"quantization_config": {"quant_method": "gptq"}}


@pytest.mark.parametrize("dtype", [torch.int32, torch.float8_e4m3fn, torch.float16])
def test_quantised_is_refused(save: Save, dtype: torch.dtype) -> None:
    """A scale beside them tells of floats that are packed all the same."""
    state = {"w": torch.ones(2).to(dtype), "w.weight_scale": torch.ones(1)}
    with pytest.raises(UnsupportedError, match=r"quantised \(gptq\), and packed"):
        open_folder(save("m", state, {"text_config": QUANTISED}))


def test_a_configuration_of_quantisation_beside_plain_weights(save: Save) -> None:
    """What is left of a 4-bit base after its adapter was merged in half precision."""
    with pytest.raises(UnsupportedError, match=r"gptq\), and they are stored as plain F32.*take q"):
        open_folder(save("m", config=QUANTISED))


@pytest.mark.parametrize(
    ("dtype", "told"),
    [
        (torch.float8_e4m3fn, "'w' has dtype F8_E4M3.*packed"),
        (torch.complex64, "C64.*view_as_real"),
    ],
)
def test_eight_bit_floats_and_complex_numbers_are_refused(
    save: Save, dtype: torch.dtype, told: str
) -> None:
    folder = save("m", {"w": torch.ones(2).to(dtype)})
    with pytest.raises(FormatError, match=told):
        open_folder(folder)


def test_truncated_file(save: Save) -> None:
    path = save("m") / SINGLE
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FormatError, match="not a sound safetensors file"):
        open_folder(path.parent)


@pytest.mark.parametrize(
    "offsets",
    {"overlap": [[0, 8], [4, 12]], "gap": [[0, 8], [12, 20]], "size": [[0, 8], [8, 12]],
     "backwards": [[8, 0], [8, 16]]}.values(),
)  # fmt: skip
def test_lying_header(tmp_path: Path, offsets: list[list[int]]) -> None:
    header = {
        name: {"dtype": "F32", "shape": [2], "data_offsets": span}
        for name, span in zip("ab", offsets, strict=True)
    }
    text = json.dumps(header).encode()
    (tmp_path / SINGLE).write_bytes(struct.pack("<Q", len(text)) + text + bytes(20))
    with pytest.raises(FormatError, match="not a sound safetensors file"):
        open_folder(tmp_path)


def test_index_of_a_missing_shard(tmp_path: Path) -> None:
    shard(tmp_path, {"a": "one.safetensors", "b": "three.safetensors"})
    with pytest.raises(FormatError, match=r"names the shard three.safetensors, which is missing"):
        open_folder(tmp_path)


@pytest.mark.parametrize("path", ["../x.safetensors", "/etc/passwd", "sub/x.safetensors", ".."])
def test_index_that_leaves_the_folder(tmp_path: Path, path: str) -> None:
    shard(tmp_path, {"a": path})
    with pytest.raises(FormatError, match="a path outside the checkpoint's folder"):
        open_folder(tmp_path)


def test_index_that_names_a_tensor_twice(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text('{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}')
    with pytest.raises(FormatError, match="'a' is named twice"):
        read_index(tmp_path / INDEX)


def test_tensor_in_two_shards(tmp_path: Path) -> None:
    shard(tmp_path)
    save_file({"a": torch.ones(1), "b": torch.ones(3)}, tmp_path / "two.safetensors")
    with pytest.raises(FormatError, match="'a' is in two shards"):
        open_folder(tmp_path)


def test_index_that_places_a_tensor_wrongly(tmp_path: Path) -> None:
    shard(tmp_path, {"a": "one.safetensors", "b": "one.safetensors"})
    with pytest.raises(FormatError, match=r"places 'b' in one.safetensors, which does not hold it"):
        open_folder(tmp_path)


def test_several_files_without_an_index(tmp_path: Path) -> None:
    shard(tmp_path)
    (tmp_path / INDEX).unlink()
    with pytest.raises(FormatError, match="2 safetensors files and no"):
        open_folder(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_damaged_config(save: Save, text: str) -> None:
    folder = save("m")
    (folder / "config.json").write_text(text)
    with pytest.raises(FormatError, match=r"not a sound config\.json"):
        open_folder(folder)


def test_identity_changes_with_the_file(save: Save) -> None:
    folder = save("m")
    before = open_folder(folder).fingerprint()
    assert open_folder(folder).fingerprint() == before
    state = load_file(folder / SINGLE)
    save_file(state, folder / SINGLE, metadata={"other": "header"})
    assert open_folder(folder).fingerprint() != before
