"""Preflight: what is understood, what is refused, and that all of it is told at once."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from mergekit_geo.checkpoints.comparison import Preflight
from mergekit_geo.checkpoints.compatibility import preflight
from mergekit_geo.checkpoints.dtypes import bytes_of
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.checkpoints.reference import open_checkpoint
from mergekit_geo.errors import IncompatibleError
from tests.architectures import ARCHITECTURES
from tests.checkpoints.adapter_models import make_base
from tests.conftest import Save
from tests.models import random_state


def compare(*folders: Path) -> Preflight:
    return preflight([open_checkpoint(folder) for folder in folders])


def rewrite(folder: Path, rename: dict[str, str], drop: tuple[str, ...] = ()) -> None:
    """Store tensors under other names, as other versions of transformers did."""
    path = folder / "model.safetensors"
    state = {
        rename.get(name, name): tensor
        for name, tensor in load_file(path).items()
        if name not in drop
    }
    save_file(state, path, metadata={"format": "pt"})


def test_same_names_and_shapes_are_fine(save: Save) -> None:
    found = compare(save("a"), save("b"))
    assert (found.problems, found.warnings, found.notes) == ([], [], [])


def test_different_architectures(save: Save) -> None:
    found = compare(save("a"), save("b", config={"architectures": ["GPT2LMHeadModel"]}))
    assert len(found.problems) == 1
    with pytest.raises(IncompatibleError, match=r"different architectures: .* is LlamaForCausalLM"):
        found.require()


def test_another_size_reports_every_tensor_and_prints_ten(save: Save) -> None:
    small = {f"w{i:02}": torch.zeros(4, 4) for i in range(15)}
    large = {name: torch.zeros(4, 8) for name in small}
    found = compare(save("a", small), save("b", large))
    assert len(found.problems) == 15
    with pytest.raises(IncompatibleError) as error:
        found.require()
    text = str(error.value)
    assert "15 problems" in text
    assert text.count("[4, 4]") == 10
    assert "... and 5 more" in text
    assert "models of different sizes" in text


def test_different_vocabularies_are_named_as_the_cause(save: Save) -> None:
    state = random_state("a")
    grown = {**state, "model.embed_tokens.weight": torch.randn(9, 4)}
    found = compare(save("a", state), save("b", grown, {"vocab_size": 9}))
    assert "different vocabularies (was one resized" in found.problems[0]


def test_different_numbers_of_labels_are_named_as_the_cause(save: Save) -> None:
    labels = {"id2label": {"0": "x", "1": "y", "2": "z"}}
    a = save("a", {"score.weight": torch.ones(2, 4)})
    b = save("b", {"score.weight": torch.ones(3, 4)}, labels)
    assert any("of different numbers of labels" in line for line in compare(a, b).problems)


def test_tensor_in_one_model_only(save: Save) -> None:
    extra = {**random_state("b"), "model.layers.0.mlp.gate_proj.weight": torch.ones(2)}
    found = compare(
        save("a", config={"architectures": None}), save("b", extra, {"architectures": None})
    )
    assert len(found.problems) == 1
    assert "gate_proj.weight is in" in found.problems[0]
    assert "and not in" in found.problems[0]


def test_integer_where_the_other_has_floats(save: Save) -> None:
    state = random_state("a")
    other = {**state, "model.norm.weight": torch.ones(4, dtype=torch.int64)}
    assert "is F32 in" in compare(save("a", state), save("b", other)).problems[0]


def test_integers_must_be_equal_and_counters_need_not() -> None:
    states = [
        {"ids": torch.tensor([1, n])}
        | dict.fromkeys(("bn.num_batches_tracked", "latent_num_updates"), torch.tensor(n))
        for n in (2, 3)
    ]
    found = preflight([of_state(state, f"m{i}") for i, state in enumerate(states)])
    with pytest.raises(IncompatibleError, match="ids holds integers that differ between m0 and m1"):
        found.fetch()
    assert len(found.problems) == 1


def test_settings_that_differ_are_a_warning(save: Save) -> None:
    found = compare(save("a", config={"rope_theta": 1e4}), save("b", config={"rope_theta": 1e6}))
    assert found.problems == []
    assert "rope_theta is 10000.0 in" in found.warnings[0]


def tiny_llama(folder: Path, seed: int, *, tied: bool = True) -> Path:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_tied_head_stored_in_one_only(tmp_path: Path) -> None:
    a, b = tiny_llama(tmp_path / "a", 1), tiny_llama(tmp_path / "b", 2)
    add_head(b, scale=1)
    for first, second in ((a, b), (b, a)):
        found = compare(first, second)
        assert found.problems == []
        assert "lm_head.weight is tied to model.embed_tokens.weight" in found.notes[0]
        assert all("lm_head.weight" not in anchor.tensors for anchor in found.fetch())


def test_tied_head_with_values_of_its_own(tmp_path: Path) -> None:
    a, b = tiny_llama(tmp_path / "a", 1), tiny_llama(tmp_path / "b", 2)
    add_head(b, scale=2)
    with pytest.raises(IncompatibleError, match=r"stores its own lm_head\.weight although"):
        compare(a, b).fetch()


def test_only_the_head_of_a_tie_is_stored(tmp_path: Path) -> None:
    a, b = tiny_llama(tmp_path / "a", 1), tiny_llama(tmp_path / "b", 2)
    rewrite(b, {"model.embed_tokens.weight": "lm_head.weight"})
    found = compare(a, b)
    assert found.problems == []
    out = torch.empty(16 * 8)
    found.fetch()[1].read("model.embed_tokens.weight", 0, 16 * 8, bytes_of(out))
    head = load_file(b / "model.safetensors")["lm_head.weight"]
    assert out.equal(head.flatten())


def add_head(folder: Path, scale: float) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    state["lm_head.weight"] = state["model.embed_tokens.weight"] * scale
    save_file(state, path, metadata={"format": "pt"})


def test_old_prefix_and_mask_buffers_of_gpt2(tmp_path: Path) -> None:
    """Checkpoints of the bare model lack `transformer.`, old ones store their causal masks."""
    config = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=16, n_positions=8)
    for name in "ab":
        GPT2LMHeadModel(config).save_pretrained(tmp_path / name)
    path = tmp_path / "b" / "model.safetensors"
    bare = {k.removeprefix("transformer."): v for k, v in load_file(path).items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 8, 8)
    bare["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(bare, path, metadata={"format": "pt"})
    for first, second in (("a", "b"), ("b", "a")):
        found = compare(tmp_path / first, tmp_path / second)
        assert found.problems == []
        assert any("matched by their loaded names (h.0." in note for note in found.notes)
        assert any("2 buffers that are not in every model left out" in n for n in found.notes)


def test_old_layer_norm_names_of_bert(tmp_path: Path) -> None:
    config = BertConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        vocab_size=16,
    )
    for name in "ab":
        BertForMaskedLM(config).save_pretrained(tmp_path / name)
    stored = load_file(tmp_path / "b" / "model.safetensors")
    old = {
        n: n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        )
        for n in stored
    }
    rewrite(tmp_path / "b", old)
    assert compare(tmp_path / "a", tmp_path / "b").problems == []


def with_tokenizer(folder: Path, vocabulary: dict[str, int], template: str | None = None) -> Path:
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def test_tokens_with_other_ids_are_refused(save: Save) -> None:
    a = with_tokenizer(save("a"), {"x": 0, "y": 1, "z": 2})
    b = with_tokenizer(save("b"), {"x": 0, "z": 1, "y": 2})
    assert "map tokens to other ids: 'y' is 1 and 2; 2 tokens" in compare(a, b).problems[0]


def test_ids_with_other_tokens_are_refused(save: Save) -> None:
    a = with_tokenizer(save("a"), {"x": 0, "y": 1})
    b = with_tokenizer(save("b"), {"x": 0, "new": 1})
    assert "1 is 'y' and 'new'; 1 tokens" in compare(a, b).problems[0]


def test_other_tokenizer_differences_are_warnings(save: Save) -> None:
    a = with_tokenizer(save("a"), {"x": 0, "y": 1}, "{{ one }}")
    b = with_tokenizer(save("b"), {"x": 0, "y": 1, "added": 2}, "{{ two }}")
    found = compare(a, b)
    assert found.problems == []
    assert any("chat_template.jinja differs" in warning for warning in found.warnings)
    assert any("1 tokens are in one vocabulary only" in warning for warning in found.warnings)


def test_tokenizers_that_cannot_be_read_are_a_warning(save: Save) -> None:
    a, b = save("a"), save("b")
    (a / "tokenizer.model").write_bytes(b"one")
    (b / "tokenizer.model").write_bytes(b"two")
    told = "the tokenizers cannot be compared: neither has a vocabulary to read"
    assert any(told in warning for warning in compare(a, b).warnings)


def test_which_of_two_has_no_tokenizer_is_told(save: Save) -> None:
    a, b = with_tokenizer(save("a"), {"x": 0}), save("b")
    assert any("the second has no vocabulary to read" in told for told in compare(a, b).warnings)
    assert any("the first has no tokenizer" in told for told in compare(b, a).warnings)


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_counters_are_the_donor_s(save: Save, order: tuple[str, str]) -> None:
    counter = {"bn.num_batches_tracked": torch.tensor(7)}
    folders = {"a": save("a", {**random_state("a"), **counter}), "b": save("b")}
    found = compare(folders[order[0]], folders[order[1]])
    assert found.problems == []
    assert ("bn.num_batches_tracked" in found.fetch()[0].tensors) == (order[0] == "a")


def test_models_of_another_width_are_refused(tmp_path: Path) -> None:
    """Of an architecture that transformers knows: no tensor has its shape, and all have a place."""
    narrow, wide = make_base(tmp_path / "a"), make_base(tmp_path / "b", hidden_size=16)
    found = compare(narrow, wide)
    assert len(found.problems) == len(open_checkpoint(narrow).tensors)
    assert all("models of widths 8 and 16" in problem for problem in found.problems)


def test_experts_stored_one_by_one_and_together(tmp_path: Path) -> None:
    model = ARCHITECTURES["Mixtral"].build()
    model.save_pretrained(tmp_path / "apart")
    model.save_pretrained(tmp_path / "together", save_original_format=False)
    for pair in (("apart", "together"), ("together", "apart")):
        found = compare(*(tmp_path / name for name in pair))
        assert len(found.problems) == 1
        with pytest.raises(
            IncompatibleError, match=r"24 tensors of \S+apart .* save_original_format"
        ):
            found.require()
    loaded = type(model).from_pretrained(tmp_path / "apart")
    loaded.save_pretrained(tmp_path / "again", save_original_format=False)
    assert compare(tmp_path / "together", tmp_path / "again").problems == []
