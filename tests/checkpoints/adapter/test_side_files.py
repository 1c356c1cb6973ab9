"""Adapters that bring a tokenizer, a chat template, or rows of the embedding."""

import gc
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import mergekit_geo as geo
from mergekit_geo.checkpoints.comparison import Preflight
from mergekit_geo.checkpoints.compatibility import preflight
from mergekit_geo.checkpoints.reference import open_checkpoint, open_checkpoints
from mergekit_geo.config.output import OutputConfig
from mergekit_geo.errors import IncompatibleError
from mergekit_geo.modules.load import quiet_transformers
from tests.checkpoints.adapter_models import (
    loaded,
    make_adapter,
    make_base,
    merged_by_peft,
    merged_here,
    rewrite,
)

WORDS = ["<s>", "</s>", "<unk>", "a", "green", "boat", "drifts", "past", "user", "assistant"]
TEMPLATE = "{% for m in messages %}{{ m['role'] + ' ' + m['content'] + ' </s> ' }}{% endfor %}"
ROWS = 16


def tokenizer_in(folder: Path, words: list[str] = WORDS, template: str | None = None) -> Path:
    model = WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tokenizer_in(make_base(tmp_path / "base", vocab_size=ROWS))


@pytest.fixture
def pair(base: Path, tmp_path: Path) -> list[Path]:
    """Two adapters that were trained with new tokens in spare rows, and with a chat template."""
    folders = [
        make_adapter(
            base, tmp_path / name, seed, target_modules=["q_proj"], modules_to_save=["embed_tokens"]
        )
        for seed, name in enumerate("xy")
    ]
    return [tokenizer_in(folder, [*WORDS, "<doc>"], TEMPLATE) for folder in folders]


def compare(*models: object) -> Preflight:
    return preflight(open_checkpoints([str(model) for model in models]))


def known_to(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


QUIET = OutputConfig(fsync=False)


def test_the_output_has_what_adapters_were_trained_with(pair: list[Path], tmp_path: Path) -> None:
    """Files byte for byte, and losses by the template that the base has not."""
    rows = [[{"role": "user", "content": "a boat"}, {"role": "assistant", "content": "green"}]]
    data = tmp_path / "chat.jsonl"
    data.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows * 4))
    out = tmp_path / "out"
    found = geo.soup(pair, out=out, data=geo.EvalData(str(data)), sharpness="off", output=QUIET)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (out / file).read_bytes() == (pair[0] / file).read_bytes()
    assert known_to(out).convert_tokens_to_ids("<doc>") == len(WORDS)
    assert len(found.measurements.losses) == 3
    assert any(f"the tokenizer is that of {pair[0]}" in note for note in compare(*pair).notes)


def test_a_template_alone_goes_beside_the_tokenizer_of_the_base(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "x", target_modules=["q_proj"])
    (adapter / "chat_template.jinja").write_text(TEMPLATE)
    geo.soup([adapter], out=tmp_path / "out", data=None, output=QUIET)
    assert known_to(tmp_path / "out").chat_template == TEMPLATE
    assert known_to(tmp_path / "out").get_vocab() == known_to(base).get_vocab()


def test_ids_that_no_row_is_for(base: Path, tmp_path: Path) -> None:
    """A pad token that was added without a row: the base's tokenizer, with the template."""
    adapter = make_adapter(base, tmp_path / "x", target_modules=["q_proj"])
    tokenizer_in(adapter, [*WORDS, *(f"<{i}>" for i in range(ROWS))], TEMPLATE)
    (adapter / "chat_template.jinja").unlink()
    rewrite(adapter / "tokenizer_config.json", chat_template=TEMPLATE)
    found = geo.soup([adapter], out=tmp_path / "out", data=None, output=QUIET)
    assert any(f"has ids beyond the {ROWS} rows" in line for line in found.report.warnings)
    assert known_to(tmp_path / "out").get_vocab() == known_to(base).get_vocab()
    assert known_to(tmp_path / "out").chat_template == TEMPLATE


@pytest.mark.parametrize(("source", "has"), [(None, True), ("base", False), ("y", True)])
def test_task_vectors_on_the_base_keep_the_tokens(
    base: Path, pair: list[Path], tmp_path: Path, source: str | None, has: bool
) -> None:
    names = {"base": str(base), "y": str(pair[1])}
    recipe = {
        "merge_method": "task_arithmetic", "base_model": str(base),
        "models": [{"model": str(one), "parameters": {"weight": 0.5}} for one in pair],
        **({"tokenizer_source": names[source] if source == "y" else source} if source else {}),
    }  # fmt: skip
    geo.run(recipe, tmp_path / "out", data=None, output=QUIET)
    assert ("<doc>" in known_to(tmp_path / "out").get_vocab()) is has
    assert (known_to(tmp_path / "out").chat_template == TEMPLATE) is has


def test_the_first_of_unlike_tokenizers(pair: list[Path], tmp_path: Path) -> None:
    tokenizer_in(pair[1], [*WORDS, "<doc>", "<end>"], TEMPLATE)
    found = geo.soup(pair, out=tmp_path / "out", data=None, output=QUIET)
    assert "<end>" not in known_to(tmp_path / "out").get_vocab()
    assert any("1 tokens are in one vocabulary only" in line for line in found.report.warnings)
    tokenizer_in(pair[1], [*WORDS, "<end>"], TEMPLATE)
    (problem,) = compare(*pair).problems
    assert problem.startswith("the tokenizers map tokens to other ids: 10 is '<doc>' and '<end>'")


def test_ids_of_an_adapter_that_mean_something_else(base: Path, tmp_path: Path) -> None:
    """A token in the place of another is what reserved ones are for; a token that moved is not."""
    adapter = make_adapter(base, tmp_path / "x", target_modules=["q_proj"])
    tokenizer_in(adapter, [*WORDS[:-1], "<tool>"])
    found = compare(adapter)
    assert found.problems == []
    assert "9 is 'assistant' and '<tool>'" in found.warnings[0]
    tokenizer_in(adapter, [*WORDS[:3], *reversed(WORDS[3:])])
    assert "'a' is 3 and 9" in compare(adapter).problems[0]
    whole = make_adapter(
        base, tmp_path / "y", target_modules=["q_proj"], modules_to_save=["embed_tokens"]
    )
    tokenizer_in(whole, [*WORDS[:3], *reversed(WORDS[3:])])
    assert compare(whole).problems == []


def test_the_files_put_together_are_gone_afterwards(pair: list[Path]) -> None:
    checkpoint = open_checkpoint(pair[0])
    assert checkpoint.adapted is not None
    folder = checkpoint.folder
    assert folder is not None
    assert checkpoint.fetch().folder == folder
    assert (folder / "config.json").is_file()
    del checkpoint
    gc.collect()
    assert not folder.exists()


def resized(base: Path, folder: Path, rows: int, **settings: Any) -> Path:
    """An adapter of a base whose embedding was resized for it."""
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        wide = loaded(base)
        wide.resize_token_embeddings(rows)
        wide.save_pretrained(folder / "wide")
        model = get_peft_model(wide, LoraConfig(r=2, target_modules=["q_proj"], **settings))
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)
        model.save_pretrained(folder / "x")
    return folder / "x"


@pytest.mark.parametrize(
    ("tied", "saved"), [(False, None), (True, None), (False, ["embed_tokens", "lm_head"])]
)
def test_resized_embeddings_are_those_of_peft(
    tmp_path: Path, tied: bool, saved: list[str] | None
) -> None:
    """Saved whole by peft itself, or beside a copy that was trained."""
    base = make_base(tmp_path / "base", vocab_size=ROWS, tie_word_embeddings=tied)
    adapter = resized(base, tmp_path, ROWS + 4, modules_to_save=saved)
    with pytest.raises(IncompatibleError, match=r"Resize the base's and save it first"):
        compare(f"{base}+{adapter}").require()
    expected = merged_by_peft(tmp_path / "wide", adapter).state_dict()
    found = merged_here(f"{tmp_path / 'wide'}+{adapter}")
    assert "model.embed_tokens.weight" in found
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name])


def test_modules_of_the_adapter_are_those_of_the_output(base: Path, tmp_path: Path) -> None:
    """sentence-transformers saves them beside the adapter; Dense layers are merged."""
    adapters = [make_adapter(base, tmp_path / n, i, target_modules=["q_proj"]) for i, n in POOLED]
    for number, folder in enumerate(adapters):
        (folder / "modules.json").write_text(json.dumps(MODULES))
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling/config.json").write_text('{"pooling_mode": "lasttoken"}')
        (folder / "2_Dense").mkdir()
        (folder / "2_Dense/config.json").write_text("{}")
        weight = torch.full((4, 8), float(number))
        save_file({"linear.weight": weight}, folder / "2_Dense/model.safetensors")
        (folder / "optimizer.pt").write_bytes(b"state")
    out = tmp_path / "out"
    found = geo.soup(adapters, out=out, data=None, output=QUIET)
    for file in ("modules.json", "1_Pooling/config.json", "2_Dense/config.json"):
        assert (out / file).read_bytes() == (adapters[0] / file).read_bytes()
    dense = load_file(out / "2_Dense/model.safetensors")["linear.weight"]
    assert dense.equal(torch.full((4, 8), 0.5))
    assert "optimizer.pt" in found.report.left_out
    assert "tokenizer.json" not in found.report.left_out


POOLED = [(0, "x"), (1, "y")]
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
]
