"""Merges of models with unlike vocabularies, against transformers and sums made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

import mergekit_geo as geo
from mergekit_geo import ReshapeConfig, TokenSource
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.checkpoints.reshape.reshape import reshaped
from mergekit_geo.checkpoints.reshape.tables import refuse_moved, rows_of, tables_of
from mergekit_geo.checkpoints.reshape.tokenizer_file import read_tokenizer, write_tokenizer
from mergekit_geo.checkpoints.sources import original
from mergekit_geo.errors import (
    ArgumentError,
    FormatError,
    IncompatibleError,
    UnsupportedError,
)
from tests.checkpoints.reshape.vocabularies import TABLES, by_hand, save, tokenizer, weights

CHAT = [AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)]
TOOLS = [AddedToken("<tool>", lstrip=True, normalized=False), "<|im_end|>"]
NAMES = ("base", "chat", "tools")
QUIET: dict[str, Any] = {"data": None, "output": geo.OutputConfig(fsync=False, overwrite=True)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base; a fine-tune with chat tokens; one with a tool token, and six rows too many."""
    root = tmp_path_factory.mktemp("models")
    save(root / "base", tokenizer(), seed=0)
    save(root / "chat", tokenizer(CHAT), seed=1, eos_token_id=[1, 281], pad_token_id=281)
    save(root / "tools", tokenizer(TOOLS), rows=288, seed=2)
    return root


def folders(models: Path) -> list[Path]:
    return [models / name for name in NAMES]


def vocabularies(models: Path) -> list[dict[str, int]]:
    return [AutoTokenizer.from_pretrained(folder).get_vocab() for folder in folders(models)]


def close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.allclose(found[name].double(), tensor, atol=1e-6), name


def soup(models: list[Path], out: Path, **wished: Any) -> geo.Result:
    return geo.soup(models, out, reshape=ReshapeConfig(**wished), sharpness="off", **QUIET)


def test_a_union_has_the_row_of_every_token(models: Path, tmp_path: Path) -> None:
    soup(folders(models), tmp_path / "out", tokenizer_source="union")
    found = AutoTokenizer.from_pretrained(tmp_path / "out")
    out = found.get_vocab()
    assert sorted(out, key=out.get)[280:] == ["<|im_start|>", "<|im_end|>", "<tool>"]
    close(
        weights(tmp_path / "out"),
        by_hand(folders(models), vocabularies(models), out, (1 / 3, 1 / 3, 1 / 3)),
    )
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    assert model.config.vocab_size == len(found) == 283


def test_added_tokens_of_a_union_are_what_they_were(models: Path, tmp_path: Path) -> None:
    soup(folders(models), tmp_path / "out", tokenizer_source="union")
    found = AutoTokenizer.from_pretrained(tmp_path / "out")
    for token in ("<|im_start|>", "<|im_end|>", "<tool>"):
        (index,) = found.encode(token)
        assert found.decode([index]) == token
    assert found.encode("boat <tool>") == [*found.encode("boat"), 282]  # it takes the space
    assert found.decode(found.encode("a boat<|im_end|>"), skip_special_tokens=True) == "a boat"
    assert found.encode("seven boats") == tokenizer().encode("seven boats")


def test_a_base_lends_its_rows(models: Path, tmp_path: Path) -> None:
    """A model without a token that others have gets the base's row, where the base has it."""
    order = [models / name for name in ("chat", "base", "tools")]
    recipe = {
        "merge_method": "linear", "base_model": str(order[0]), "tokenizer_source": "union",
        "models": [{"model": str(folder), "parameters": {"weight": 1}} for folder in order],
    }  # fmt: skip
    geo.run(recipe, tmp_path / "out", sharpness="off", **QUIET)
    out = AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
    own = [AutoTokenizer.from_pretrained(folder).get_vocab() for folder in order]
    close(weights(tmp_path / "out"), by_hand(order, own, out, (1 / 3,) * 3, based=True))


def test_without_a_base_a_missing_row_is_the_mean(models: Path, tmp_path: Path) -> None:
    """<|im_end|> is in two of three; resized by transformers, each has 1/3 of the sum of rows."""
    soup(folders(models), tmp_path / "out", tokenizer_source="union")
    chat, tools = (weights(models / name) for name in ("chat", "tools"))
    for table in TABLES:
        row = weights(tmp_path / "out")[table][281]
        assert torch.allclose(row, (chat[table][281] + tools[table][281]) / 2, atol=1e-6)


@pytest.mark.parametrize("source", ["base", "chat"])
def test_the_tokenizer_of_one(models: Path, tmp_path: Path, source: str) -> None:
    wanted = "base" if source == "base" else str(models / source)
    soup(folders(models), tmp_path / "out", tokenizer_source=wanted)
    made, kept = (AutoTokenizer.from_pretrained(f) for f in (tmp_path / "out", models / source))
    assert made.get_vocab() == kept.get_vocab()
    file = "tokenizer.json"
    assert (tmp_path / "out" / file).read_bytes() == (models / source / file).read_bytes()
    close(
        weights(tmp_path / "out"),
        by_hand(folders(models), vocabularies(models), made.get_vocab(), (1 / 3,) * 3),
    )


def test_a_tokenizer_of_none_of_the_models(models: Path, tmp_path: Path) -> None:
    """Rows of tokens that nobody has are zeros, and said."""
    tokenizer([*CHAT, "<new>"]).save_pretrained(tmp_path / "other")
    found = soup(folders(models), tmp_path / "out", tokenizer_source=str(tmp_path / "other"))
    assert any("1 tokens have a row in no model ('<new>')" in w for w in found.report.warnings)
    assert not weights(tmp_path / "out")["lm_head.weight"][282].any()


def test_ids_follow_their_tokens(models: Path, tmp_path: Path) -> None:
    """The donor's ids of special tokens, in both files, where the tokens are now."""
    order = [models / name for name in ("chat", "base", "tools")]
    tokens = [*TOOLS, *reversed(CHAT)]
    tokenizer(tokens[:1] + tokens[2:]).save_pretrained(tmp_path / "moved")  # tool, end, start
    soup(order, tmp_path / "out", tokenizer_source=str(tmp_path / "moved"))
    for file in ("config.json", "generation_config.json"):
        said = json.loads((tmp_path / "out" / file).read_text())
        assert (said["bos_token_id"], said["eos_token_id"], said["pad_token_id"]) == (
            0,
            [1, 281],
            281,
        )
    assert AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()["<|im_end|>"] == 281
    soup(order, tmp_path / "less", tokenizer_source=str(models / "base"))
    found = json.loads((tmp_path / "less/config.json").read_text())
    assert (found["eos_token_id"], found["pad_token_id"]) == ([1], None)
    AutoModelForCausalLM.from_pretrained(tmp_path / "less")


def test_padding_is_the_mean_of_the_rows_that_have_tokens(models: Path, tmp_path: Path) -> None:
    found = soup(folders(models), tmp_path / "out", tokenizer_source="union", pad_to_multiple_of=64)
    out = AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
    expected = by_hand(folders(models), vocabularies(models), out, (1 / 3,) * 3)
    for table in TABLES:
        rows = weights(tmp_path / "out")[table]
        assert len(rows) == 320
        assert torch.allclose(rows[:283], expected[table], atol=1e-6)
        assert torch.allclose(rows[283:], expected[table].mean(0).expand(37, -1), atol=1e-6)
    assert any("37 rows are padding" in note for note in found.report.settings["alignment"])
    assert json.loads((tmp_path / "out/config.json").read_text())["vocab_size"] == 320


def test_padding_is_kept_where_that_is_asked_for(models: Path, tmp_path: Path) -> None:
    order = [models / "tools", models / "base"]
    soup(order, tmp_path / "kept", tokenizer_source="base", keep_padding=True)
    soup(order, tmp_path / "cut", tokenizer_source="base")
    kept, cut = (weights(tmp_path / name)["lm_head.weight"] for name in ("kept", "cut"))
    assert (len(kept), len(cut)) == (288, 282)
    assert torch.equal(kept[:282], cut)
    own, base = (weights(folder)["lm_head.weight"] for folder in order)
    lent = torch.cat([base, own[280:282]]).mean(0)
    assert torch.allclose(kept[282:], (own[282:] + lent) / 2, atol=1e-6)


def test_one_vocabulary_leaves_the_models_as_they_are(models: Path) -> None:
    opened = open_checkpoints([models / "tools", models / "tools"])
    found = reshaped(opened, ReshapeConfig("union"))
    assert list(found.checkpoints) == opened
    assert "rows stay as they are" in found.notes[0]


def test_views_have_the_output_s_tokenizer_and_their_originals_their_own(models: Path) -> None:
    found = reshaped(open_checkpoints(folders(models)), ReshapeConfig("union")).checkpoints
    own = [AutoTokenizer.from_pretrained(original(one).folder) for one in found]
    assert [len(one) for one in own] == [280, 282, 282]
    assert all(len(AutoTokenizer.from_pretrained(one.folder)) == 283 for one in found)


def test_a_row_in_one_model_s_dtype_reaches_the_other_exactly(tmp_path: Path) -> None:
    base, chat = tokenizer(), tokenizer(CHAT)
    save(tmp_path / "base", base, seed=0, dtype=torch.bfloat16)
    save(tmp_path / "chat", chat, seed=1)
    wide = geo.OutputConfig(dtype="float32", fsync=False)
    geo.soup(
        [tmp_path / "base", tmp_path / "chat"], tmp_path / "out", data=None, sharpness="off",
        reshape=ReshapeConfig("union"), output=wide,
    )  # fmt: skip
    row = weights(tmp_path / "out")["lm_head.weight"][280]
    assert torch.equal(row, weights(tmp_path / "chat")["lm_head.weight"][280])


def test_tied_embeddings(tmp_path: Path) -> None:
    base, chat = tokenizer(), tokenizer(CHAT)
    order = [tmp_path / "base", tmp_path / "chat"]
    save(order[0], base, seed=0, tie_word_embeddings=True)
    save(order[1], chat, seed=1, tie_word_embeddings=True)
    soup(order, tmp_path / "out", tokenizer_source="union")
    out = AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
    close(
        weights(tmp_path / "out"),
        by_hand(order, [base.get_vocab(), chat.get_vocab()], out, (0.5, 0.5)),
    )
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_head_that_only_one_model_ties(tmp_path: Path) -> None:
    order = [tmp_path / "base", tmp_path / "chat"]
    save(order[0], tokenizer(), seed=0, tie_word_embeddings=True)
    save(order[1], tokenizer(CHAT), seed=1)
    soup(order, tmp_path / "out", tokenizer_source="union")
    base, chat = weights(order[0]), weights(order[1])
    for table in TABLES:
        mean = (base[TABLES[0]][:280] + chat[table][:280]) / 2
        assert torch.allclose(weights(tmp_path / "out")[table][:280], mean, atol=1e-6)
    assert torch.allclose(
        weights(tmp_path / "out")[TABLES[0]][280:], chat[TABLES[0]][280:], atol=1e-6
    )


def test_rows_that_are_wished_for(models: Path, tmp_path: Path) -> None:
    _, chat, tools = (str(folder) for folder in folders(models))
    tokens = {
        "<|im_end|>": TokenSource(tools),
        "a": TokenSource(chat, force=True),
        "b": TokenSource(chat, token="<s>", force=True),
        "<id>": TokenSource(tools, token_id=286),
        "<zero>": TokenSource(zero=True),
    }
    soup(folders(models), tmp_path / "out", tokenizer_source="union", tokens=tokens)
    out = AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
    own = tokenizer().get_vocab()
    for table in TABLES:
        found = weights(tmp_path / "out")[table]
        of_chat, of_tools = weights(models / "chat")[table], weights(models / "tools")[table]
        assert torch.allclose(found[out["a"]], of_chat[own["a"]], atol=1e-6)
        assert torch.allclose(found[out["b"]], of_chat[own["<s>"]], atol=1e-6)
        assert torch.allclose(found[out["<id>"]], of_tools[286], atol=1e-6)
        assert not found[out["<zero>"]].any()
        end = (2 * of_tools[281] + of_chat[281]) / 3
        assert torch.allclose(found[out["<|im_end|>"]], end, atol=1e-6)


def test_a_model_without_a_tokenizer_is_taken_as_the_base_s(models: Path, tmp_path: Path) -> None:
    save(tmp_path / "bare", rows=280, seed=5)
    order = [models / "base", models / "chat", tmp_path / "bare"]
    found = soup(order, tmp_path / "out", tokenizer_source="union")
    assert any("bare has no tokenizer: its rows are taken as" in w for w in found.report.warnings)
    own = [tokenizer().get_vocab(), tokenizer(CHAT).get_vocab(), tokenizer().get_vocab()]
    out = AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
    close(weights(tmp_path / "out"), by_hand(order, own, out, (1 / 3,) * 3))


def test_a_tokenizer_that_cannot_be_read_is_taken_as_the_base_s(
    models: Path, tmp_path: Path
) -> None:
    save(tmp_path / "odd", rows=280, seed=5)
    (tmp_path / "odd/tokenizer.json").write_text("{")
    found = soup([models / "base", tmp_path / "odd"], tmp_path / "out", tokenizer_source="union")
    assert any("odd cannot be read: " in warning for warning in found.report.warnings)
    with pytest.raises(FormatError, match="not a sound tokenizer"):
        soup([tmp_path / "odd", models / "base"], tmp_path / "out", tokenizer_source="union")


def test_tokens_that_are_not_named_soundly_beside_a_tokenizer(tmp_path: Path) -> None:
    tokenizer().save_pretrained(tmp_path)
    for decoder in ([1], {"x": {"content": "a"}}, {"3": {}}):
        (tmp_path / "tokenizer_config.json").write_text(
            json.dumps({"added_tokens_decoder": decoder})
        )
        with pytest.raises(FormatError, match=r"beside tokenizer\.json do not name tokens soundly"):
            read_tokenizer(tmp_path)


def test_settings_that_differ_are_told(models: Path, tmp_path: Path) -> None:
    """Of the same token, and of what is done to text before it is cut."""
    spaced = tokenizer([AddedToken("<|im_end|>", special=False, lstrip=True)])
    before = pre_tokenizers.ByteLevel(add_prefix_space=True)
    spaced.backend_tokenizer.pre_tokenizer = before
    save(tmp_path / "spaced", spaced, seed=5)
    found = soup(
        [models / "chat", tmp_path / "spaced"], tmp_path / "out", tokenizer_source="union"
    ).report.warnings
    assert any("1 added tokens have other settings in" in warning for warning in found)
    assert any("the pre_tokenizer of" in w and "text may be cut" in w for w in found)
    end = AutoTokenizer.from_pretrained(tmp_path / "out").added_tokens_decoder[281]
    assert (end.special, end.lstrip) == (True, False)


def test_tokens_beyond_the_rows_are_none(models: Path, tmp_path: Path) -> None:
    """Tokens that were added to a tokenizer, and to no embedding."""
    save(tmp_path / "unused", tokenizer([*CHAT, "<unused>"]), rows=282, seed=5)
    for order in ([models / "base", tmp_path / "unused"], [tmp_path / "unused", models / "base"]):
        soup(order, tmp_path / "out", tokenizer_source="union")
        out = AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
        assert "<unused>" not in out
        assert len(out) == 282


def test_two_tokenizers_that_cut_text_differently(models: Path, tmp_path: Path) -> None:
    other = tokenizer(text="quick brown foxes jump over lazy dogs ")
    save(tmp_path / "other", other, seed=3)
    mine, theirs = tokenizer().get_vocab(), other.get_vocab()
    unlike = len(mine.keys() ^ theirs.keys())
    assert unlike > 2
    order = [models / "base", tmp_path / "other"]
    for source in ("union", "base", str(tmp_path / "other")):
        with pytest.raises(IncompatibleError, match=rf"{unlike} ordinary tokens are in one only"):
            soup(order, tmp_path / "out", tokenizer_source=source)


@pytest.mark.parametrize("form", ["sorted", "compact", "reversed"])
def test_a_tokenizer_file_in_any_order(models: Path, tmp_path: Path, form: str) -> None:
    """As scripts write it: what is read of it is what the tokenizers library reads."""
    raw = json.loads((models / "chat/tokenizer.json").read_text())
    if form == "reversed":
        raw = dict(reversed([(key, raw[key]) for key in raw]))
        raw["model"] = dict(reversed([(key, raw["model"][key]) for key in raw["model"]]))
    compact = {"separators": (",", ":")} if form == "compact" else {}
    text = json.dumps(raw, sort_keys=form == "sorted", ensure_ascii=form == "compact", **compact)
    (tmp_path / "tokenizer.json").write_text(text, "utf-8")
    found = read_tokenizer(tmp_path)
    assert found is not None
    known = AutoTokenizer.from_pretrained(models / "chat")
    assert found.tokens == known.get_vocab()
    assert found.model.parsed()["merges"] == raw["model"]["merges"]
    write_tokenizer(found, tmp_path)
    again = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert again.get_vocab() == known.get_vocab()
    assert again.encode("seven boats<|im_end|>").ids == known.encode("seven boats<|im_end|>")


def test_a_tokenizer_file_of_an_older_release_says_the_same(models: Path, tmp_path: Path) -> None:
    """It leaves out what is false, and has merges as text."""
    raw = json.loads((models / "chat/tokenizer.json").read_text())
    for key in ("byte_fallback", "ignore_merges", "dropout"):
        assert not raw["model"].pop(key)
    raw["model"]["merges"] = [" ".join(pair) for pair in raw["model"]["merges"]]
    assert raw["pre_tokenizer"].pop("use_regex")
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))
    older, base = read_tokenizer(tmp_path), read_tokenizer(models / "base")
    assert older is not None
    assert base is not None
    assert (base.unlike(older), base.unlike_before(older)) == ("", [])
    raw["model"]["ignore_merges"] = raw["pre_tokenizer"]["add_prefix_space"] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))
    other = read_tokenizer(tmp_path)
    assert other is not None
    assert base.unlike(other) == "ignore_merges differs"
    assert base.unlike_before(other) == ["pre_tokenizer"]


def test_a_tokenizer_that_extends_another(models: Path, tmp_path: Path) -> None:
    """More merges: a union is refused with what works, the larger tokenizer for both."""
    more = tokenizer(size=290)
    save(tmp_path / "more", more, seed=3)
    order = [models / "base", tmp_path / "more"]
    with pytest.raises(IncompatibleError, match=r"extends the other, tokenizer_source: \S+more"):
        soup(order, tmp_path / "out", tokenizer_source="union")
    soup(order, tmp_path / "out", tokenizer_source=str(order[1]))
    own = [tokenizer().get_vocab(), more.get_vocab()]
    close(weights(tmp_path / "out"), by_hand(order, own, more.get_vocab(), (0.5, 0.5)))


def test_rows_that_are_cut_to_the_common_part(models: Path, tmp_path: Path) -> None:
    order = [models / name for name in ("chat", "base", "tools")]
    found = soup(order, tmp_path / "out", truncate_embeddings=True)
    states = [weights(folder) for folder in order]
    for table in TABLES:
        expected = sum(state[table][:280] for state in states) / 3
        assert torch.allclose(weights(tmp_path / "out")[table], expected, atol=1e-6)
    assert json.loads((tmp_path / "out/config.json").read_text())["vocab_size"] == 280
    said = " ".join(found.report.warnings)
    assert "2 tokens of the output's tokenizer are beyond its 280 rows ('<|im_start|>'" in said
    _, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())


def test_unlike_row_counts_are_refused_with_both_ways_out(models: Path, tmp_path: Path) -> None:
    said = r"different vocabularies.*--tokenizer-source union.*--truncate-embeddings"
    with pytest.raises(IncompatibleError, match=said):
        soup(folders(models), tmp_path / "out")


@pytest.mark.parametrize(
    ("wished", "said"),
    [
        (
            {"tokens": {"x": TokenSource("chat", token="<nope>")}},
            "chat has no token '<nope>'.*no mo",
        ),
        (
            {"tokens": {"x": TokenSource("base", token="<tool>")}},
            r"no token '<tool>' \(\S+tools has",
        ),
        ({"tokens": {"x": TokenSource("chat", token_id=282)}}, "token_id 282 of .*rows 0 to 281"),
        ({"tokens": {"x": TokenSource("chat", token_id=-1)}}, "token_id -1 of .*rows 0 to 281"),
        ({"tokens": {"<zz>": TokenSource("other")}}, "other is none of the models"),
        ({"tokenizer_source": "nowhere"}, "nowhere is none of the models.*base, union, or one of"),
    ],
)
def test_rows_that_nobody_has(models: Path, wished: dict[str, Any], said: str) -> None:
    named = {
        token: TokenSource(
            str(models / source.model) if source.model in NAMES else source.model,
            source.token, source.token_id,
        )
        for token, source in wished.get("tokens", {}).items()
    }  # fmt: skip
    config = ReshapeConfig(**{"tokenizer_source": "union", **wished, "tokens": named or None})
    with pytest.raises(ArgumentError, match=said):
        reshaped(open_checkpoints(folders(models)), config)


EIGHT = LlamaConfig(
    vocab_size=8, hidden_size=8, num_attention_heads=2, num_hidden_layers=1,
    architectures=["LlamaForCausalLM"],
).to_dict()  # fmt: skip


def of_shapes(shapes: dict[str, tuple[int, ...]], **config: Any) -> Checkpoint:
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    return of_state(state, "m", {**EIGHT, **config})


def test_tables_whose_rows_are_not_those_of_tokens_alone() -> None:
    odd = of_shapes({TABLES[0]: (16, 8), TABLES[1]: (8, 8)})
    with pytest.raises(UnsupportedError, match=r"embed_tokens.weight grows .*\[16, 8\]"):
        tables_of([odd])


def test_a_further_embedding_of_the_same_ids_follows_or_stays() -> None:
    """Gemma 3n and 4: of as many rows it is moved, too; of fewer it cannot be."""
    further = "model.embed_tokens_per_layer.weight"
    for rows, tables in ((8, {TABLES[0], further}), (6, {TABLES[0]})):
        model = of_shapes({TABLES[0]: (8, 4), further: (rows, 6)})
        (found,) = tables_of([model])
        assert found.keys() == tables
        refuse_moved(model, found, np.array([0, 1, 2, 3, 4, 5, 7, 6]))
    with pytest.raises(UnsupportedError, match="a number of rows of its own: such rows"):
        refuse_moved(model, found, np.array([1, 0, 2, 3, 4, 5, 6, 7]))


@pytest.mark.parametrize("sizes", [(99, 8), (8, 99)])
def test_of_several_vocabularies_the_embedding_s_counts(sizes: tuple[int, int]) -> None:
    """PaliGemma and older Llavas state two, one of which is of no tensor."""
    model = of_shapes(
        {TABLES[0]: (8, 4)}, vocab_size=sizes[0], text_config={"vocab_size": sizes[1]}
    )
    assert rows_of(model) == 8


def test_models_in_memory_are_cut(models: Path) -> None:
    opened = [AutoModelForCausalLM.from_pretrained(models / name) for name in ("chat", "base")]
    found = geo.soup(opened, data=None, reshape=ReshapeConfig(truncate_embeddings=True))
    assert found.state is not None
    for table in TABLES:
        mean = sum(weights(models / name)[table][:280] for name in ("chat", "base")) / 2
        assert torch.allclose(found.state[table].double(), mean, atol=1e-6)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: TokenSource("a", token="x", token_id=1), "both token .'x'. and token_id .1."),
        (lambda: TokenSource(force=True), "no source says which"),
        (lambda: ReshapeConfig(pad_to_multiple_of=0), "at least 1, found 0"),
        (
            lambda: reshaped([], ReshapeConfig("union", truncate_embeddings=True)),
            "only one of them can be meant",
        ),
    ],
)
def test_settings_that_cannot_be_meant(made: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        made()
