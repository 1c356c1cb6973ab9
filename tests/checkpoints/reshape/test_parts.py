"""Grafts and parts that only one model has, against transformers' modules in float64."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import mergekit_geo as geo
from mergekit_geo.config.reshape import ReshapeConfig
from mergekit_geo.errors import ArgumentError, IncompatibleError, RecipeError
from tests.conftest import Save
from tests.part_models import TEXT, reloaded, saved

LANGUAGE = ReshapeConfig(part="text")
OUTPUT = geo.OutputConfig(fsync=False)
State = dict[str, Tensor]


def wide(state: State) -> State:
    return {name: tensor.double() for name, tensor in state.items()}


def inside(whole: State, text: State) -> dict[str, str]:
    """Where transformers has the tensors of a text model in a multimodal one."""
    found = {name: name.replace("model.", "model.language_model.", 1) for name in text}
    return {name: place for name, place in found.items() if place in whole}


def check_graft(out: Path, kind: str, whole: State, expected: State) -> None:
    """The output is a whole model, whose part is as expected and whose rest is the donor's."""
    found = reloaded(out, kind)
    assert found.keys() == whole.keys()
    for name, tensor in found.items():
        wanted = expected.get(name, whole[name].double())
        if name in expected:
            assert torch.allclose(tensor.double(), wanted, rtol=0, atol=1e-6), name
        else:
            assert torch.equal(tensor, whole[name]), name


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Llava", "Llama"),
        pytest.param("Qwen2_5_VL", "Qwen2", marks=pytest.mark.slow),
        pytest.param("Gemma3", "Gemma3Text", marks=pytest.mark.slow),
    ],
)
def test_a_text_model_goes_into_the_language_part(kind: str, text: str, tmp_path: Path) -> None:
    a = saved(tmp_path / "a", kind, seed=1)
    b = saved(tmp_path / "b", text, "ForCausalLM", seed=2)
    whole, own = reloaded(a, kind), wide(reloaded(b, text, "ForCausalLM"))
    expected = {
        place: 0.25 * whole[place].double() + 0.75 * own[name]
        for name, place in inside(whole, own).items()
    }
    assert len(expected) == len(own)
    found = geo.soup([a, b], tmp_path / "o", weights=[1, 3], reshape=LANGUAGE, output=OUTPUT,
                     data=None)  # fmt: skip
    check_graft(tmp_path / "o", kind, whole, expected)
    (note,) = found.report.settings["alignment"]
    taken = found.measurements.coefficients.branches["linear"]
    assert f"{taken} tensors of text are merged, " in note
    assert f"of vision are copied from {a}" in note or f"of projector are copied from {a}" in note


@pytest.mark.slow
def test_the_donor_is_the_whole_model_wherever_it_stands(tmp_path: Path) -> None:
    a = saved(tmp_path / "a", "Llava", seed=1)
    b = saved(tmp_path / "b", "Llama", "ForCausalLM", seed=2)
    (a / "preprocessor_config.json").write_text("{}")
    (b / "notes.txt").write_text("")
    whole, own = reloaded(a, "Llava"), wide(reloaded(b, "Llama", "ForCausalLM"))
    expected = {
        place: 0.25 * whole[place].double() + 0.75 * own[name]
        for name, place in inside(whole, own).items()
    }
    found = geo.soup([b, a], tmp_path / "o", weights=[3, 1], reshape=LANGUAGE, output=OUTPUT,
                     data=None)  # fmt: skip
    check_graft(tmp_path / "o", "Llava", whole, expected)
    assert (
        f"{b} has text alone: architecture, configuration and tokenizer"
        in (found.report.settings["alignment"][1])
    )
    assert (tmp_path / "o" / "preprocessor_config.json").is_file()
    assert json.loads((tmp_path / "o" / "config.json").read_text())["model_type"] == "llava"
    assert found.report.warnings == []


@pytest.mark.slow
def test_task_vectors_from_a_text_base(tmp_path: Path) -> None:
    a = saved(tmp_path / "a", "Llava", seed=1)
    b, base = (saved(tmp_path / f"b{i}", "Llama", "ForCausalLM", seed=i) for i in (2, 3))
    whole = reloaded(a, "Llava")
    own, start = (wide(reloaded(one, "Llama", "ForCausalLM")) for one in (b, base))
    expected = {
        place: start[name] + 0.5 * (whole[place].double() - start[name]) + (own[name] - start[name])
        for name, place in inside(whole, own).items()
    }
    geo.merge([a, b], tmp_path / "o", method="task_arithmetic", base=base, weights=[0.5, 1],
              reshape=LANGUAGE, output=OUTPUT, data=None)  # fmt: skip
    check_graft(tmp_path / "o", "Llava", whole, expected)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_of_tokens_that_the_whole_model_added_stay(dtype: torch.dtype, tmp_path: Path) -> None:
    """The output has the whole model's dtype, whichever is named first."""
    a = saved(tmp_path / "a", "Llava", seed=1)
    b = saved(tmp_path / "b", "Llama", "ForCausalLM", seed=2, vocab_size=20)
    state = load_file(b / "model.safetensors")
    save_file({n: t.to(dtype) for n, t in state.items()}, b / "model.safetensors")
    geo.soup([b, a], tmp_path / "o", weights=[1, 1], reshape=LANGUAGE, output=OUTPUT, data=None)
    stored = load_file(tmp_path / "o" / "model.safetensors").values()
    assert {tensor.dtype for tensor in stored} == {torch.float32}
    found, whole = reloaded(tmp_path / "o", "Llava"), reloaded(a, "Llava")
    text = reloaded(b, "Llama", "ForCausalLM")
    for name, own in (
        ("model.language_model.embed_tokens.weight", "model.embed_tokens.weight"),
        ("lm_head.weight", "lm_head.weight"),
    ):
        assert torch.allclose(found[name][:20], (whole[name][:20] + text[own]) / 2, atol=1e-6)
        assert torch.allclose(found[name][20:], whole[name][20:], atol=1e-6)


def test_the_embeddings_of_a_text_model_that_ties_them_are_its_output_layer(tmp_path: Path) -> None:
    a = saved(tmp_path / "a", "Llava", seed=1)
    b = saved(tmp_path / "b", "Llama", "ForCausalLM", seed=2, tie_word_embeddings=True)
    geo.soup([a, b], tmp_path / "o", weights=[0, 1], reshape=LANGUAGE, output=OUTPUT, data=None)
    found = load_file(tmp_path / "o" / "model.safetensors")
    own = load_file(b / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(found["language_model.lm_head.weight"], own)
    assert torch.equal(found["language_model.model.embed_tokens.weight"], own)


@pytest.mark.parametrize("first", [0, 1])
def test_a_whole_model_that_ties_its_head_has_one_of_its_own_where_the_text_model_has(
    first: int, tmp_path: Path
) -> None:
    a = saved(tmp_path / "a", "Gemma3", seed=1)
    b = saved(tmp_path / "b", "Gemma3Text", "ForCausalLM", seed=2, tie_word_embeddings=False)
    order, weights = ([a, b], [1, 3]) if first == 0 else ([b, a], [3, 1])
    found = geo.soup(order, tmp_path / "o", weights=weights, reshape=LANGUAGE, output=OUTPUT,
                     data=None)  # fmt: skip
    (warning,) = found.report.warnings
    assert f"embed_tokens.weight in {a} and not in {b}: in the output it is a tensor" in warning
    out, whole = reloaded(tmp_path / "o", "Gemma3"), reloaded(a, "Gemma3")
    text = reloaded(b, "Gemma3Text", "ForCausalLM")
    embedding = whole["model.language_model.embed_tokens.weight"]
    assert torch.allclose(out["lm_head.weight"], 0.25 * embedding + 0.75 * text["lm_head.weight"],
                          atol=1e-6)  # fmt: skip
    assert torch.allclose(out["model.language_model.embed_tokens.weight"],
                          0.25 * embedding + 0.75 * text["model.embed_tokens.weight"],
                          atol=1e-6)  # fmt: skip


def test_kinds_that_a_text_model_has_nothing_of_are_the_whole_models(tmp_path: Path) -> None:
    """Layers for multi-token prediction: refused with the way out, and copied where it is taken."""
    a = saved(tmp_path / "a", "Llava", seed=1)
    b = saved(tmp_path / "b", "Llama", "ForCausalLM", seed=2)
    state = load_file(a / "model.safetensors") | {"mtp.fc.weight": torch.ones(3, 2)}
    save_file(state, a / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        IncompatibleError,
        match=r"text/multi_token_prediction \(1 tensor, mtp.fc.weight\) is in .*a and not in .*b: "
        "--allow-missing-parts copies it",
    ):
        geo.soup([a, b], reshape=LANGUAGE, data=None)
    both = ReshapeConfig(part="text", allow_missing_parts=True)
    found = geo.soup([a, b], weights=[0, 1], reshape=both, data=None)
    assert found.state is not None
    assert torch.equal(found.state["mtp.fc.weight"], state["mtp.fc.weight"])
    assert "1 of text/multi_token_prediction" in found.report.settings["alignment"][0]
    own = load_file(b / "model.safetensors")["model.layers.1.mlp.up_proj.weight"]
    assert torch.equal(found.state["language_model.model.layers.1.mlp.up_proj.weight"], own)


@pytest.mark.slow
def test_the_encoder_of_another_model(tmp_path: Path) -> None:
    a = saved(tmp_path / "a", "T5", seed=1)
    b = saved(tmp_path / "b", "T5", "EncoderModel", seed=2)
    whole, own = reloaded(a, "T5"), wide(reloaded(b, "T5", "EncoderModel"))
    expected = {
        name: (whole[name].double() + own[name]) / 2
        for name in own
        if name.startswith("encoder.") and "embed_tokens" not in name
    }
    part = ReshapeConfig(part="encoder")
    geo.soup([a, b], tmp_path / "o", reshape=part, output=OUTPUT, data=None)
    check_graft(tmp_path / "o", "T5", whole, expected)


@pytest.mark.slow
def test_of_two_whole_models_one_part_is_merged(tmp_path: Path) -> None:
    a, b = (saved(tmp_path / f"{i}", "Llava", seed=i) for i in (1, 2))
    whole, other = reloaded(a, "Llava"), reloaded(b, "Llava")
    expected = {
        name: (whole[name].double() + other[name].double()) / 2
        for name in whole
        if name.startswith("model.vision_tower.")
    }
    vision = ReshapeConfig(part="vision_tower")
    geo.soup([a, b], tmp_path / "o", reshape=vision, output=OUTPUT, data=None)
    check_graft(tmp_path / "o", "Llava", whole, expected)


@pytest.mark.parametrize(
    ("part", "how", "message"),
    [
        ("text", {"hidden_size": 16}, r"F32 \[24, 8\] in .* and F32 \[24, 16\] in .* widths 8 and"),
        ("text", {"num_hidden_layers": 1}, r"9 tensors of that part are in .*a and not in .*b:"),
        ("text", {"vocab_size": 30}, "unlike rows: --tokenizer-source"),
    ],
)
def test_grafts_that_do_not_fit(
    part: str, how: dict[str, int], message: str, tmp_path: Path
) -> None:
    a = saved(tmp_path / "a", "Llava", seed=1)
    b = saved(tmp_path / "b", "Llama", "ForCausalLM", seed=2, **how)
    with pytest.raises(IncompatibleError, match=message):
        geo.soup([a, b], tmp_path / "o", reshape=ReshapeConfig(part=part), data=None)
    assert not (tmp_path / "o").exists()


def test_experts_that_are_stored_otherwise(save: Save) -> None:
    together = {"visual.w": torch.ones(2), "model.layers.0.norm.weight": torch.ones(2),
                "model.layers.0.mlp.experts.gate_up_proj": torch.ones(2, 4, 2)}  # fmt: skip
    apart = {f"model.layers.0.mlp.experts.{i}.gate_proj.weight": torch.ones(2, 2) for i in (0, 1)}
    bare = {"architectures": None}
    a = save("a", together, bare)
    b = save("b", {**apart, "model.layers.0.norm.weight": torch.ones(2)}, bare)
    with pytest.raises(IncompatibleError, match=r"experts are stored otherwise in .*b than in .*a"):
        geo.soup([a, b], reshape=LANGUAGE, data=None)


def test_parts_that_are_not_there(tmp_path: Path) -> None:
    a = saved(tmp_path / "a", "Llava", seed=1)
    b = saved(tmp_path / "b", "Llama", "ForCausalLM", seed=2)
    for part, message in (
        ("txet", r"a has no part 'txet' \(did you mean text\? its parts: text, "),
        ("vision", r"b has no part 'vision' \(its parts: text, "),
        ("default", r"a has no part 'default' .*its parts"),
    ):
        with pytest.raises(ArgumentError, match=message):
            geo.soup([a, b], reshape=ReshapeConfig(part=part), data=None)


def test_settings_of_a_text_model_that_change_what_its_weights_mean(tmp_path: Path) -> None:
    a = saved(tmp_path / "a", "Llava", seed=1)
    b = saved(tmp_path / "b", "Llama", "ForCausalLM", seed=2, rms_norm_eps=1e-3)
    found = geo.check([a, b], reshape=LANGUAGE)
    assert found.compatible
    assert any("rms_norm_eps is 1e-06 in" in line for line in found.report.warnings)


def test_settings_of_a_tower_are_its_own(tmp_path: Path) -> None:
    a = saved(tmp_path / "a", "Llava", seed=1)
    b = saved(tmp_path / "b", "Llava", seed=2, num_hidden_layers=1)
    config = json.loads((b / "config.json").read_text())
    config["text_config"]["rms_norm_eps"], config["vision_config"]["layer_norm_eps"] = 0.5, 0.25
    (b / "config.json").write_text(json.dumps(config))
    warnings = geo.check([a, b], reshape=ReshapeConfig(part="vision")).report.warnings
    assert [line.partition(" is ")[0] for line in warnings] == ["config.json: layer_norm_eps"]


def _with_further_layer(folder: Path, names: Callable[[int], str]) -> Path:
    """Add a multi-token-prediction layer as DeepSeek-V3 stores it: after the last layer."""
    path = folder / "model.safetensors"
    state = load_file(path)
    for i, part in enumerate(("eh_proj.weight", "enorm.weight", "mlp.up_proj.weight")):
        state[names(2) + part] = torch.full((3, 2), float(i))
    save_file(state, path, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_nextn_predict_layers": 1}))
    return folder


@pytest.mark.parametrize("holder", [0, 1])
def test_a_part_in_one_model_only(holder: int, tmp_path: Path) -> None:
    """Refused with the way out, and copied where that is taken; config.json goes with it."""
    folders = [saved(tmp_path / n, "Llama", "ForCausalLM", seed=i) for i, n in enumerate("ab")]
    shutil.copytree(folders[0], tmp_path / "plain")
    whole = _with_further_layer(folders[holder], lambda n: f"model.layers.{n}.")
    with pytest.raises(
        IncompatibleError,
        match=r"text/multi_token_prediction \(3 tensors, .*: --allow-missing-parts copies it",
    ):
        geo.soup(folders, data=None)
    allowed = ReshapeConfig(allow_missing_parts=True)
    found = geo.soup(folders, tmp_path / "o", reshape=allowed, output=OUTPUT, data=None)
    (note, *told) = found.report.settings["alignment"]
    lacking = folders[1 - holder]
    assert note == (
        f"text/multi_token_prediction: 3 tensors that {lacking} lacks are copied from {whole}"
    )
    assert [line for line in told if "num_nextn_predict_layers 1" in line] == told
    assert len(told) == holder
    state = load_file(tmp_path / "o" / "model.safetensors")
    a, b = (load_file(folder / "model.safetensors") for folder in folders)
    for name, tensor in (a | b).items():
        if name in a and name in b:
            assert torch.allclose(state[name], (a[name] + b[name]) / 2, atol=1e-6)
        else:
            assert torch.equal(state[name], tensor)
    config = json.loads((tmp_path / "o" / "config.json").read_text())
    assert config["num_nextn_predict_layers"] == 1
    assert config["num_hidden_layers"] == TEXT["num_hidden_layers"]


def test_a_model_without_some_tensors_of_a_part_is_refused_all_the_same(tmp_path: Path) -> None:
    a = saved(tmp_path / "a", "Llama", "ForCausalLM", seed=1)
    b = saved(tmp_path / "b", "Llama", "ForCausalLM", seed=2, num_hidden_layers=1)
    with pytest.raises(IncompatibleError, match=r"layers\.1\..* is in .*a and not in"):
        geo.soup([a, b], reshape=ReshapeConfig(allow_missing_parts=True), data=None)


@pytest.mark.slow
def test_a_head_in_one_model_only(tmp_path: Path) -> None:
    """The inner model beside the model with a head, whose architecture the output has."""
    a = saved(tmp_path / "a", "Llama", "Model", seed=1, tie_word_embeddings=False)
    b = saved(tmp_path / "b", "Llama", "ForCausalLM", seed=2, tie_word_embeddings=False)
    allowed = ReshapeConfig(allow_missing_parts=True)
    geo.soup([a, b], tmp_path / "o", reshape=allowed, output=OUTPUT, data=None)
    found = reloaded(tmp_path / "o", "Llama", "ForCausalLM")
    inner, whole = reloaded(a, "Llama", "Model"), reloaded(b, "Llama", "ForCausalLM")
    assert torch.equal(found["lm_head.weight"], whole["lm_head.weight"])
    for name, tensor in inner.items():
        assert torch.allclose(found[f"model.{name}"], (tensor + whole[f"model.{name}"]) / 2)


@pytest.mark.slow
def test_losses_of_a_graft_are_those_of_the_module(family: Path, tmp_path: Path) -> None:
    """The text model is measured in the place of the language part, and so are points between."""
    vocabulary = json.loads((family / "base" / "config.json").read_text())["vocab_size"]
    a = saved(tmp_path / "a", "Llava", seed=1, vocab_size=vocabulary)
    b = saved(tmp_path / "b", "Llama", "ForCausalLM", seed=2, vocab_size=vocabulary)
    for file in (family / "base").glob("token*"):
        for folder in (a, b):
            shutil.copy(file, folder)
    lines = [f"The quick brown fox jumps over {i} lazy dogs, and again." for i in range(40)]
    data = tmp_path / "held-out.jsonl"
    data.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    between = geo.barrier([a, b], reshape=LANGUAGE, data=str(data), points=3).measurements
    alone = geo.barrier([b, b], data=str(data), points=3).measurements
    assert between.losses[1].loss == pytest.approx(alone.losses[0].loss)
    assert between.losses[0].loss != pytest.approx(alone.losses[0].loss)
    found = geo.soup([a, b], weights=[0, 1], reshape=LANGUAGE, data=str(data), sharpness="off")
    (_, parent, output) = found.measurements.losses
    assert output.loss == pytest.approx(parent.loss)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["a", "b"])
def test_a_recipe_merges_a_text_model_into_a_module(first: str, tmp_path: Path) -> None:
    """Modules that the recipe does not name are the whole model's, wherever it stands."""
    a = saved(tmp_path / "a", "Llava", seed=1)
    b = saved(tmp_path / "b", "Llama", "ForCausalLM", seed=2)
    c = saved(tmp_path / "c", "Llava", seed=3)
    whole, own = reloaded(a, "Llava"), wide(reloaded(b, "Llama", "ForCausalLM"))
    other = wide(reloaded(c, "Llava"))
    expected = {
        place: 0.25 * whole[place].double() + 0.75 * own[name]
        for name, place in inside(whole, own).items()
    } | {
        name: (whole[name].double() + other[name]) / 2
        for name in whole
        if name.startswith("model.vision_tower.")
    }
    text = [
        {"model": "a", "parameters": {"weight": 1}},
        {"model": "b", "parameters": {"weight": 3}},
    ]
    vision = [{"model": name, "parameters": {"weight": 1}} for name in ("a", "c")]
    modules = {
        "text_decoder": {"models": text if first == "a" else text[::-1]},
        "vision_tower": {"models": vision},
    }
    recipe = {"merge_method": "linear", "modules": modules}
    models = {"a": a, "b": b, "c": c}
    found = geo.run(recipe, tmp_path / "o", models=models, output=OUTPUT, data=None)
    check_graft(tmp_path / "o", "Llava", whole, expected)
    assert f"{b} is taken as text of {a}" in found.report.settings["alignment"]
    modules["visoin_tower"] = modules.pop("vision_tower")
    with pytest.raises(RecipeError, match=r"no module visoin_tower .*did you mean vision_tower\?"):
        geo.run(recipe, models=models, data=None)


def test_layers_of_classifiers_with_unlike_labels(save: Save) -> None:
    """Refused with the way out; the rest is the first model's."""
    draw = torch.Generator().manual_seed(0)
    a, b = (
        {"layers.0.w": torch.randn(4, 4, generator=draw), "score.weight": torch.randn(n, 4)}
        for n in (2, 3)
    )
    labels = {"architectures": None, "id2label": {"0": "x", "1": "y", "2": "z"}}
    folders = [save("a", a, {"architectures": None}), save("b", b, labels)]
    with pytest.raises(IncompatibleError, match=r"of labels \(--part layers merges"):
        geo.soup(folders, data=None)
    found = geo.soup(folders, reshape=ReshapeConfig(part="layers"), data=None).state
    assert found is not None
    assert torch.allclose(found["layers.0.w"], (a["layers.0.w"] + b["layers.0.w"]) / 2)
    assert torch.equal(found["score.weight"], a["score.weight"])
