"""Tokenizers and chat templates of recipes, as mergekit's users write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

import mergekit_geo as geo
from mergekit_geo.errors import RecipeError
from tests.checkpoints.reshape.vocabularies import TABLES, save, tokenizer, weights

CHAT = ["<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
QUIET: dict[str, Any] = {
    "data": None, "sharpness": "off", "output": geo.OutputConfig(fsync=False, overwrite=True),
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save(root / "base", tokenizer(), seed=0)
    save(root / "chat", tokenizer(CHAT, chat_template=CHATML), seed=1)
    save(root / "plain", tokenizer(chat_template=PLAIN), seed=2)
    save(root / "again", tokenizer(chat_template=PLAIN), seed=4)
    save(root / "bare", rows=280, seed=3)
    return root


def recipe(models: Path, *names: str, **more: Any) -> dict[str, Any]:
    entries = [{"model": str(models / name), "parameters": {"weight": 1}} for name in names]
    return {"merge_method": "linear", "models": entries, **more}


def run(models: Path, out: Path, *names: str, **more: Any) -> geo.Result:
    return geo.run(recipe(models, *names, **more), out, **QUIET)


@pytest.mark.parametrize("said", [{"tokenizer_source": "union"}, {"tokenizer": {}}])
def test_a_union(models: Path, tmp_path: Path, said: dict[str, Any]) -> None:
    run(models, tmp_path / "out", "base", "chat", **said)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab().keys() >= set(CHAT)
    for table in TABLES:
        found, chat = (weights(f)[table] for f in (tmp_path / "out", models / "chat"))
        assert torch.allclose(found[280:], chat[280:], atol=1e-6)


def test_a_recipe_beside_the_weights_makes_them_again(models: Path, tmp_path: Path) -> None:
    run(
        models, tmp_path / "out", "base", "chat", chat_template="chatml",
        tokenizer={"source": "union", "pad_to_multiple_of": 32, "tokens": {"<x>": {"source": {
            "kind": "model_token", "model": str(models / "chat"), "token": "<|im_end|>"}}}},
    )  # fmt: skip
    geo.run(tmp_path / "out/recipe.yml", tmp_path / "again", **QUIET)
    first, second = (weights(tmp_path / name) for name in ("out", "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    said = json.loads((tmp_path / "out/report.json").read_text())["result"]["coefficients"]
    geo.run(said["recipe"], tmp_path / "third", **QUIET)
    assert weights(tmp_path / "third").keys() == first.keys()


def test_single_tokens_by_text_and_by_kind(models: Path, tmp_path: Path) -> None:
    text = f"""
merge_method: linear
models:
  - {{model: {models / "base"}, parameters: {{weight: 1}}}}
  - {{model: {models / "chat"}, parameters: {{weight: 1}}}}
tokenizer:
  source: base
  tokens:
    a: {{source: {models / "chat"}, force: true}}
    b: {{source: {{kind: model_token, model: {models / "chat"}, token_id: 280}}, force: true}}
    "<new>": {{source: {{kind: zero}}}}
"""
    geo.run(text, tmp_path / "out", **QUIET)
    out = AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
    found, chat = (weights(f)["lm_head.weight"] for f in (tmp_path / "out", models / "chat"))
    assert torch.allclose(found[out["a"]], chat[out["a"]], atol=1e-6)
    assert torch.allclose(found[out["b"]], chat[280], atol=1e-6)
    assert not found[out["<new>"]].any()


def test_models_of_the_call_are_named_by_the_recipe(models: Path, tmp_path: Path) -> None:
    named = {name: str(models / name) for name in ("base", "chat")}
    said = {"merge_method": "linear", "tokenizer_source": "chat",
            "models": [{"model": name, "parameters": {"weight": 1}} for name in named]}  # fmt: skip
    geo.run(said, tmp_path / "out", models=named, **QUIET)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == 282


def test_the_call_goes_before_the_recipe(models: Path, tmp_path: Path) -> None:
    wanted = geo.ReshapeConfig("union", pad_to_multiple_of=16)
    said = recipe(models, "base", "chat", tokenizer_source="base")
    geo.run(said, tmp_path / "out", reshape=wanted, **QUIET)
    assert json.loads((tmp_path / "out/config.json").read_text())["vocab_size"] == 288
    again = json.loads((tmp_path / "out/report.json").read_text())["provenance"]["command"]
    assert "--tokenizer-source=union --pad-to-multiple-of=16" in again


def test_a_model_made_on_the_way_has_the_rows_of_its_union(models: Path, tmp_path: Path) -> None:
    first = recipe(models, "base", "chat", name="both", tokenizer_source="union")
    second = recipe(models, "chat", tokenizer_source="base")
    second["models"].append({"model": "both", "parameters": {"weight": 1}})
    geo.run(yaml.safe_dump_all([first, second]), tmp_path / "out", **QUIET)
    _, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    head, chat, base = (
        weights(folder)["lm_head.weight"]
        for folder in (tmp_path / "out", models / "chat", models / "base")
    )
    assert torch.allclose(head[:280], (chat[:280] + (base + chat[:280]) / 2) / 2, atol=1e-6)


def test_a_dry_run_has_the_rows_of_the_output(models: Path) -> None:
    said = recipe(models, "base", "chat", tokenizer={"pad_to_multiple_of": 64})
    found = geo.run(said, dry_run=True).measurements
    head = 2 * 8 * 320
    plain = geo.run(recipe(models, "base"), dry_run=True).measurements
    assert found.parameters - plain.parameters == head - 2 * 8 * 280


@pytest.mark.parametrize(
    ("names", "template", "why"),
    [
        (("base", "chat", "plain", "again"), PLAIN, "the commonest"),
        (("chat", "plain"), None, "the first of these is taken"),
        (("base", "bare"), None, "no model has a chat template"),
    ],
)
def test_the_commonest_template(
    models: Path, tmp_path: Path, names: tuple[str, ...], template: str | None, why: str
) -> None:
    """Ties go to the donor, whose own is not written anew."""
    folders = {}
    for place, name in enumerate(names):
        folders[f"{name}-{place}"] = str(models / name)
    said = {
        "merge_method": "linear", "tokenizer_source": "union", "chat_template": "auto",
        "models": [{"model": f, "parameters": {"weight": 1}} for f in folders.values()],
    }  # fmt: skip
    found = geo.run(said, tmp_path / "out", **QUIET)
    assert any(why in note for note in found.report.settings["alignment"])
    made = AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    own = AutoTokenizer.from_pretrained(models / names[0]).chat_template
    assert made == (template or own)


def test_where_nothing_is_said_the_donor_s_template_stays(models: Path, tmp_path: Path) -> None:
    run(models, tmp_path / "out", "plain", "chat", tokenizer_source="union")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == PLAIN


def test_a_template_whose_tokens_a_model_has_and_the_output_lacks(
    models: Path, tmp_path: Path
) -> None:
    said = r"it writes <\|im_start\|>, <\|im_end\|>: tokens of \S+chat, .*`tokenizer_source: union`"
    for template in ("auto", "chatml", CHATML):
        wanted = {"chat_template": template, "tokenizer_source": "base"}
        with pytest.raises(RecipeError, match=said):
            run(models, tmp_path / "out", "base", "chat", **wanted)
    run(models, tmp_path / "out", "base", "chat", chat_template="auto", tokenizer_source="union")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == CHATML


def test_a_template_whose_marks_no_tokenizer_has(models: Path, tmp_path: Path) -> None:
    """As in mergekit they are plain text; it is said, and refused under --strict."""
    found = run(models, tmp_path / "out", "base", "bare", chat_template="chatml")
    (line,) = [line for line in found.report.warnings if "chat template" in line]
    assert line.startswith("the chat template writes <|im_end|>, <|im_start|>, for which")
    said = recipe(models, "base", "bare", chat_template="chatml")
    with pytest.raises(RecipeError, match="the output's tokenizer has no token"):
        geo.run(said, tmp_path / "out", strict=True, **QUIET)


def test_added_words_and_spaces_are_no_marks_of_a_template(models: Path, tmp_path: Path) -> None:
    save(tmp_path / "words", tokenizer(["user", "\n"]), seed=5)
    said = recipe(models, "base", tokenizer_source="base", chat_template=PLAIN)
    said["models"].append({"model": str(tmp_path / "words"), "parameters": {"weight": 1}})
    geo.run(said, tmp_path / "out", **QUIET)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == PLAIN


def test_a_template_that_fails(models: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"chat_template: the chat template .*Syntax"):
        run(models, tmp_path / "out", "base", "bare", chat_template="{{ messages[0")


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("source: {kind: model_token, model: a, token: x, token_id: 3}", "both token ..x.. and to"),
        ("source: {kind: model_token, model: a}", "neither token nor token_id says"),
        ("source: {kind: mean}", "no kind of source 'mean' .*model_token or zero"),
        ("force: true", "force gives every model one row, and no source says which"),
        ("sources: a", r"unknown key tokenizer.tokens.x.sources"),
    ],
)
def test_tokens_that_cannot_be_meant(tmp_path: Path, said: str, error: str) -> None:
    text = (
        "merge_method: linear\nmodels: [{model: a}]\n"
        f"tokenizer:\n  tokens:\n    x:\n      {said}\n"
    )
    with pytest.raises(RecipeError, match=f"line [56]: .*{error}"):
        geo.run(text, tmp_path / "out", data=None)


def test_a_tokenizer_that_is_not_there(models: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"bare has no tokenizer \(name one that has: \S+base\)"):
        run(models, tmp_path / "out", "base", "bare", tokenizer_source=str(models / "bare"))


def test_the_recipe_of_a_command_makes_the_same_merge(models: Path, tmp_path: Path) -> None:
    names = [models / "base", models / "chat"]
    tokens = {
        "a": geo.TokenSource(str(names[1]), force=True),
        "<x>": geo.TokenSource(str(names[1]), token_id=280),
        "<0>": geo.TokenSource(zero=True),
    }
    fitting = geo.ReshapeConfig("union", pad_to_multiple_of=8, keep_padding=True, tokens=tokens)
    made = geo.soup(names, tmp_path / "soup", reshape=fitting, **QUIET)
    said = made.measurements.coefficients.recipe
    geo.run(said, tmp_path / "run", **QUIET)
    first, second = (weights(tmp_path / name) for name in ("soup", "run"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    cut = geo.ReshapeConfig(truncate_embeddings=True)
    found = geo.soup(names, tmp_path / "cut", reshape=cut, **QUIET)
    assert found.measurements.coefficients.recipe is None  # no key of a recipe cuts
