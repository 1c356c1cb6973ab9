"""Parents whose files are not what transformers runs: understood, or refused with the reason."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

import mergekit_geo as geo
from mergekit_geo.checkpoints.comparison import Preflight
from mergekit_geo.checkpoints.compatibility import preflight
from mergekit_geo.checkpoints.dtypes import bytes_of
from mergekit_geo.checkpoints.index import INDEX
from mergekit_geo.checkpoints.reference import open_checkpoint
from mergekit_geo.errors import FormatError
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from tests.conftest import Save


def compare(*folders: Path) -> Preflight:
    return preflight([open_checkpoint(folder) for folder in folders])


def tiny_llama(folder: Path, seed: int, *, tied: bool = True) -> Path:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_tied_embedding_is_the_head_beside_an_untied_one(tmp_path: Path) -> None:
    a, b = tiny_llama(tmp_path / "a", 1), tiny_llama(tmp_path / "b", 2, tied=False)
    for first, second in ((a, b), (b, a)):
        found = compare(first, second)
        assert found.problems == []
        assert any("lm_head.weight is tied to model.embed" in line for line in found.warnings)
        assert not any("the output has the first model's" in line for line in found.warnings)
        anchors = found.fetch()
        assert not any(anchor.config["tie_word_embeddings"] for anchor in anchors)
        out = torch.empty(16 * 8)
        anchors[(first, second).index(a)].read("lm_head.weight", 0, 16 * 8, bytes_of(out))
        assert out.equal(stored_in(a)["model.embed_tokens.weight"].flatten())


def test_an_untied_model_needs_a_head(tmp_path: Path) -> None:
    a, b = tiny_llama(tmp_path / "a", 1), tiny_llama(tmp_path / "b", 2)
    set_config(b, tie_word_embeddings=False)
    for first, second in ((a, b), (b, a)):
        problems = compare(first, second).problems
        assert any("b stores no lm_head.weight, which its conf" in line for line in problems)


def stored_in(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def change(folder: Path, changes: Callable[[dict[str, Tensor]], object]) -> None:
    state = stored_in(folder)
    changes(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def set_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.norm.weight": (0,)}, r"a: 1 tensor has not .*norm.weight is \[0\], exp.*\[8\]"),
        (
            {"model.embed_tokens.weight": (128,), "model.norm.weight": (0,)},
            r"a: 2 tensors have not the shape of LlamaForCausalLM \(model.embed_tokens.weight is "
            r"\[128\], expected \[16, 8\]\): shards of FSDP",
        ),
        ({"model.embed_tokens.weight": (8, 8)}, r"is \[8, 8\], expected \[16, 8\]"),
        ({"model.layers.0.mlp.up_proj.weight": (64,)}, r"up_proj.weight is \[64\], expected"),
        ({"model._flat_param": (100,)}, r"model._flat_param holds several flattened into one"),
    ],
)
def test_shards_that_were_not_put_together(
    tmp_path: Path, changes: dict[str, tuple[int, ...]], said: str
) -> None:
    a, b = tiny_llama(tmp_path / "a", 1), tiny_llama(tmp_path / "b", 2)
    for folder in (a, b):
        change(folder, lambda s: s.update({n: torch.zeros(shape) for n, shape in changes.items()}))
    assert re.search(said, compare(a, b).problems[0])


def test_an_empty_tensor_of_an_unknown_architecture(save: Save) -> None:
    state = {"w": torch.ones(2, 2), "x.weight": torch.ones(0)}
    own = {"architectures": ["OwnModel"], "model_type": "own"}
    found = compare(save("a", state, own), save("b", state, own))
    assert "1 tensor has not the shape of OwnModel (x.weight is [0])" in found.problems[0]


def test_an_embedding_that_its_configuration_does_not_know(tmp_path: Path) -> None:
    a, b = tiny_llama(tmp_path / "a", 1), tiny_llama(tmp_path / "b", 2)
    set_config(b, vocab_size=20)
    (problem,) = compare(a, b).problems
    assert "was resized and config.json was not; set its vocab_size to 16" in problem


WRAPPED = {
    "model.": "_orig_mod.model.",
    "model.layers.0.": "model.layers.0._orig_mod.",
    "": "module._fsdp_wrapped_module.",
}


@pytest.mark.parametrize(("own", "wrapped"), [*WRAPPED.items(), ("", "base_model.model.")])
def test_names_of_wrappers_are_taken_off(tmp_path: Path, own: str, wrapped: str) -> None:
    a, b = tiny_llama(tmp_path / "a", 1), tiny_llama(tmp_path / "b", 2)
    change(b, lambda s: s.update({n.replace(own, wrapped, 1): s.pop(n) for n in list(s)}))
    for first, second in ((a, b), (b, a), (b, b)):
        found = compare(first, second)
        assert found.problems == []
        assert any("without the wrapper that its module was saved in" in n for n in found.notes)
        assert all(anchor.tensors.keys() == stored_in(a).keys() for anchor in found.fetch())


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_names_with_something_before_them_are_told_in_one_line(
    tmp_path: Path, order: tuple[int, int]
) -> None:
    """A model with a value head of trl, or the language model of a larger one."""
    a, b = tiny_llama(tmp_path / "a", 1), tiny_llama(tmp_path / "b", 2)
    change(b, lambda s: s.update({f"inner.{n}": s.pop(n) for n in list(s)}))
    change(b, lambda s: s.update({"v_head.weight": torch.ones(1, 8)}))
    (problem,) = compare(*((a, b)[i] for i in order)).problems
    assert re.search(r"called in \S+b as in \S+a, with 'inner.' before \(inner.model.emb", problem)


def test_a_tensor_inside_and_outside_a_wrapper(tmp_path: Path) -> None:
    a = tiny_llama(tmp_path / "a", 1)
    change(a, lambda s: s.update({"_orig_mod.model.norm.weight": torch.ones(8)}))
    with pytest.raises(FormatError, match=r"'_orig_mod.model.norm.weight' and .* are one tensor"):
        compare(a, a)


@pytest.mark.parametrize("first", ["a", "b"])
def test_what_transformers_leaves_aside_does_not_block(tmp_path: Path, first: str) -> None:
    """The draft head of Qwen 3.5 is in the base alone: fine-tunes saved by transformers lack it."""
    for name in "ab":
        (tmp_path / name).mkdir()
        weights = {"model.norm.weight": torch.full((8,), float(ord(name)))}
        draft = {"mtp.fc.weight": torch.ones(8, 16)} if name == "a" else {}
        save_file({**weights, **draft}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text(json.dumps(QWEN))
    second = "b" if first == "a" else "a"
    found = compare(tmp_path / first, tmp_path / second)
    assert found.problems == []
    does = "are copied from it as they are" if first == "a" else "are left out"
    assert any("mtp.fc.weight of" in line and does in line for line in found.warnings)
    blend = Blend(found.fetch(), Linear((0.5, 0.5)), "BF16")
    expected = {"model.norm.weight": "BF16", **({"mtp.fc.weight": "F32"} if first == "a" else {})}
    assert {name: info.dtype for name, info in blend.outputs().items()} == expected


QWEN = {
    "architectures": ["Qwen3_5ForCausalLM"], "model_type": "qwen3_5_text", "vocab_size": 16,
    "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
    "num_key_value_heads": 1, "head_dim": 8, "linear_num_value_heads": 1, "linear_num_key_heads": 1,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "layer_types": ["full_attention"],
}  # fmt: skip


BERT = {
    "vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 16,
}  # fmt: skip
PRETRAINING = {
    "bert.pooler.dense.weight": (8, 8), "bert.pooler.dense.bias": (8,),
    "cls.seq_relationship.weight": (2, 8), "cls.seq_relationship.bias": (2,),
}  # fmt: skip


def tiny_bert(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    BertForMaskedLM(BertConfig(**BERT)).save_pretrained(folder)
    return folder


def merged_as_loaded(first: Path, second: Path, out: Path) -> list[str]:
    """The warnings of a soup that transformers loads as the mean of what it loads of the two."""
    result = geo.soup([first, second], out, data=None, output=geo.OutputConfig(fsync=False))
    a, b = (AutoModelForMaskedLM.from_pretrained(folder).state_dict() for folder in (first, second))
    model, told = AutoModelForMaskedLM.from_pretrained(out, output_loading_info=True)
    assert not told["missing_keys"]
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, (a[name] + b[name]) / 2)
    return list(result.report.warnings)


@pytest.mark.parametrize("first", ["a", "b"])
def test_heads_of_pretraining_in_one_only(tmp_path: Path, first: str) -> None:
    """The base on the Hub has a pooler that its architecture has not; its fine-tunes lack it."""
    a, b = tiny_bert(tmp_path / "a", 1), tiny_bert(tmp_path / "b", 2)
    change(a, lambda s: s.update({n: torch.ones(shape) for n, shape in PRETRAINING.items()}))
    order = (a, b) if first == "a" else (b, a)
    warnings = merged_as_loaded(*order, tmp_path / "out")
    assert any("4 tensors" in w and "transformers does without" in w for w in warnings)
    kept = stored_in(tmp_path / "out").keys() & PRETRAINING.keys()
    assert kept == (PRETRAINING.keys() if first == "a" else set())


UNLIKE = {
    "integers of another length": torch.arange(32)[None],
    "other integers": torch.arange(1, 17)[None],
    "floats": torch.arange(16.0)[None],
}


@pytest.mark.parametrize("theirs", UNLIKE.values(), ids=UNLIKE)
def test_buffers_that_models_make_anew_need_not_be_alike(tmp_path: Path, theirs: Tensor) -> None:
    a, b = tiny_bert(tmp_path / "a", 1), tiny_bert(tmp_path / "b", 2)
    for folder, ids in ((a, torch.arange(16)[None]), (b, theirs)):
        change(folder, lambda s, ids=ids: s.update({"bert.embeddings.position_ids": ids}))
    merged_as_loaded(a, b, tmp_path / "out")
    assert stored_in(tmp_path / "out")["bert.embeddings.position_ids"].tolist() == [[*range(16)]]


def test_unused_tensors_of_other_shapes(tmp_path: Path) -> None:
    a, b = tiny_bert(tmp_path / "a", 1), tiny_bert(tmp_path / "b", 2)
    for rows, folder in enumerate((a, b), 1):
        change(folder, lambda s, rows=rows: s.update({"v_head.weight": torch.ones(rows, 8)}))
    assert any("v_head.weight" in line for line in merged_as_loaded(a, b, tmp_path / "out"))
    assert len(stored_in(tmp_path / "out")["v_head.weight"]) == 1


MASKS = {"unsigned": torch.uint8, "float": torch.float32}


def test_causal_masks_of_unlike_dtypes(tmp_path: Path) -> None:
    """Old releases of transformers stored them."""
    for seed, (name, dtype) in enumerate(MASKS.items()):
        torch.manual_seed(seed)
        settings = GPT2Config(vocab_size=16, n_embd=8, n_layer=1, n_head=2, n_positions=8)
        GPT2LMHeadModel(settings).save_pretrained(tmp_path / name)
        mask = torch.ones(1, 1, 8, 8, dtype=dtype)
        change(tmp_path / name, lambda s, mask=mask: s.update({"transformer.h.0.attn.bias": mask}))
    assert compare(*(tmp_path / name for name in MASKS)).problems == []


@pytest.mark.parametrize("named", [None, ["LLaMAForCausalLM"]])
def test_an_architecture_without_a_name_or_by_its_old_one(
    tmp_path: Path, named: list[str] | None
) -> None:
    a, b = tiny_llama(tmp_path / "a", 1), tiny_llama(tmp_path / "b", 2)
    set_config(b, architectures=named)
    change(b, lambda s: s.update({"rotary_emb.inv_freq": torch.ones(2)}))
    for first, second in ((a, b), (b, a)):
        assert compare(first, second).problems == []


def in_shards(folder: Path, seed: int) -> dict[str, str]:
    """What the index of a tied model in several files says."""
    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(**LLAMA_SETTINGS)).save_pretrained(folder, max_shard_size="1KB")
    found: dict[str, str] = json.loads((folder / INDEX).read_text())["weight_map"]
    return found


LLAMA_SETTINGS = {
    "vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip


def test_the_index_only_names_the_shards(tmp_path: Path) -> None:
    """As in transformers: a tied head, a buffer that every model makes anew, another shard."""
    a, b = in_shards(tmp_path / "a", 1), in_shards(tmp_path / "b", 2)
    shards = sorted(set(a.values()))
    moved = {name: shards[shards.index(shard) - 1] for name, shard in a.items()}
    last = shards[-1]
    unknown = {"lm_head.weight": last, "model.layers.0.self_attn.rotary_emb.inv_freq": last}
    (tmp_path / "a" / INDEX).write_text(
        json.dumps({"metadata": {}, "weight_map": {**moved, **unknown}})
    )
    models = [tmp_path / "a", tmp_path / "b"]
    found = geo.soup(models, tmp_path / "out", data=OWN, sharpness="off", output=FAST)
    plain = [loss_of(AutoModelForCausalLM.from_pretrained(folder)).item() for folder in models]
    assert [one.loss for one in found.measurements.losses][:2] == pytest.approx(plain, rel=1e-6)
    assert stored_in(tmp_path / "out").keys() == b.keys()


@pytest.mark.parametrize("lost", ["model.norm.weight", "model.layers.0.mlp.up_proj.weight"])
def test_an_index_that_names_what_a_model_needs(tmp_path: Path, lost: str) -> None:
    shard = in_shards(tmp_path / "a", 1)[lost]
    state = load_file(tmp_path / "a" / shard)
    state.pop(lost)
    save_file(state, tmp_path / "a" / shard)
    with pytest.raises(FormatError, match=rf"places '{lost}' in {shard}, which does not hold it"):
        open_checkpoint(tmp_path / "a")


FAST = geo.OutputConfig(fsync=False)
OLD = {"rope_theta": 10000.0}
LONG = {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}}


@pytest.mark.parametrize(
    ("mine", "theirs", "differing"),
    [
        (OLD, {}, ""),
        (OLD, {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}, ""),
        (OLD, {"unheard_of": 3}, ""),
        (OLD, LONG, "rope_parameters"),
        ({"rope_theta": 1e6}, {"rope_parameters": {"rope_theta": 1e4}}, "rope_parameters"),
        ({"attention_bias": True}, {}, "attention_bias"),
        ({"rms_norm_eps": 1e-6}, {}, ""),
    ],
)
def test_settings_that_one_alone_states(
    tmp_path: Path, mine: dict[str, object], theirs: dict[str, object], differing: str
) -> None:
    """The other's default is compared: rotary embeddings are told otherwise since release 5."""
    folders = tiny_llama(tmp_path / "a", 1), tiny_llama(tmp_path / "b", 2)
    for folder, own in zip(folders, (mine, theirs), strict=True):
        path = folder / "config.json"
        found = json.loads(path.read_text())
        for key in ("rope_parameters", "attention_bias", "rms_norm_eps"):
            found.pop(key, None)
        path.write_text(json.dumps({**found, **own}))
    said = [line for line in compare(*folders).warnings if line.startswith("config.json: ")]
    assert [line.split()[1] for line in said] == ([differing] if differing else [])


IDS = torch.arange(16)[None]


def loss_of(model: LlamaForCausalLM, ids: Tensor = IDS) -> Tensor:
    loss: Tensor = model(input_ids=ids, labels=ids).loss
    return loss


OWN = geo.FunctionObjective(lambda m, ids: loss_of(m, ids)[None], [IDS] * 2)


@pytest.mark.parametrize("first", ["a", "b"])
def test_tied_and_untied_are_measured_as_they_are_merged(tmp_path: Path, first: str) -> None:
    folders = {n: tiny_llama(tmp_path / n, i, tied=n == "a") for i, n in enumerate("ab")}
    names = [first, "ab"[first == "a"]]
    out = tmp_path / "out"
    found = geo.soup([folders[n] for n in names], out=out, data=OWN, sharpness="off")
    model = AutoModelForCausalLM.from_pretrained(out)
    parents = [AutoModelForCausalLM.from_pretrained(folders[n]).state_dict() for n in names]
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, (parents[0][name] + parents[1][name]) / 2)
    losses = {Path(one.model).name: one.loss for one in found.measurements.losses}
    for name, folder in {**folders, "output": out}.items():
        own = loss_of(AutoModelForCausalLM.from_pretrained(folder))
        assert losses[name] == pytest.approx(own.item(), rel=1e-6)


def test_wrapped_parents_are_measured(tmp_path: Path) -> None:
    a, b = tiny_llama(tmp_path / "a", 1), tiny_llama(tmp_path / "b", 2)
    plain = [loss_of(AutoModelForCausalLM.from_pretrained(folder)).item() for folder in (a, b)]
    for folder in (a, b):
        change(folder, lambda s: s.update({f"_orig_mod.{n}": s.pop(n) for n in list(s)}))
    found = geo.soup([a, b], data=OWN, sharpness="off")
    losses = [one.loss for one in found.measurements.losses]
    assert losses[:2] == pytest.approx(plain, rel=1e-6)
