"""geo.run and geo-merge run, against formulas on whole tensors."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.cli.app import app
from mergekit_geo.errors import IncompatibleError, RecipeError
from mergekit_geo.recipes.dry_run import dry_run
from mergekit_geo.recipes.reading import read_recipe
from tests.conftest import Save

State = dict[str, Tensor]
LAYERS = 3


def state(seed: int) -> State:
    draw = torch.Generator().manual_seed(seed)
    names = ["embed.weight", *(f"layers.{i}.{p}" for i in range(LAYERS) for p in ("attn", "mlp"))]
    return {name: torch.randn(4, 3, generator=draw) for name in names}


MODELS = {name: state(seed) for seed, name in enumerate(["base", "a", "b", "c"])}


def entry(model: str, **parameters: object) -> dict[str, Any]:
    return {"model": model, "parameters": parameters}


def merged(recipe: dict[str, Any]) -> State:
    found = geo.run(recipe, models=MODELS, data=None).state
    assert found is not None
    return found


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_weights_by_layer_and_filter() -> None:
    weight = [{"filter": "mlp", "value": [0, 1, 4]}, 3]
    found = merged({
        "merge_method": "linear",
        "models": [entry("a", weight=weight), entry("b", weight=1)],
    })  # fmt: skip
    a, b = MODELS["a"], MODELS["b"]
    for name, tensor in found.items():
        own = [0, 1, 4][int(name.split(".")[1])] if "mlp" in name else 3
        close(tensor, (own * a[name] + b[name]) / (own + 1))


def test_weights_as_they_are() -> None:
    found = merged({
        "merge_method": "linear",
        "models": [entry("a", weight=1), entry("b", weight=-0.5)],
        "parameters": {"normalize": False},
    })  # fmt: skip
    close(found["layers.1.mlp"], MODELS["a"]["layers.1.mlp"] - 0.5 * MODELS["b"]["layers.1.mlp"])


def test_slerp_begins_at_the_base_in_whatever_order() -> None:
    found = merged({
        "merge_method": "slerp", "base_model": "b", "models": [entry("a"), entry("b")],
        "parameters": {"t": [0, 0.5, 1]},
    })  # fmt: skip
    assert torch.equal(found["layers.0.mlp"], MODELS["b"]["layers.0.mlp"])
    assert torch.equal(found["layers.2.mlp"], MODELS["a"]["layers.2.mlp"])
    x, y = MODELS["b"]["layers.1.mlp"], MODELS["a"]["layers.1.mlp"]
    theta = torch.acos((x * y).sum() / x.norm() / y.norm())
    close(found["layers.1.mlp"], torch.sin(theta / 2) / torch.sin(theta) * (x + y))


@pytest.mark.parametrize("based", [True, False])
def test_multislerp_and_nuslerp_agree_on_two_equal_norms(based: bool) -> None:
    """At equal weights the tangent mean and SLERP have one direction."""
    recipe = {"models": [entry("a", weight=1), entry("b", weight=1)]}
    recipe |= {"base_model": "base"} if based else {}
    one = merged({"merge_method": "nuslerp", **recipe})["embed.weight"]
    origin = MODELS["base"]["embed.weight"] if based else torch.zeros(4, 3)
    x, y = MODELS["a"]["embed.weight"] - origin, MODELS["b"]["embed.weight"] - origin
    theta = torch.acos((x * y).sum() / x.norm() / y.norm())
    close(one, origin + torch.sin(theta / 2) / torch.sin(theta) * (x + y))
    other = merged({"merge_method": "multislerp", **recipe})["embed.weight"]
    middle = x / x.norm() + y / y.norm()
    close(other, origin + middle / middle.norm() * (x.norm() + y.norm()) / 2)


def test_passthrough_of_one_model() -> None:
    found = merged({"merge_method": "passthrough", "models": [entry("a")]})
    assert all(torch.equal(found[name], MODELS["a"][name]) for name in found)
    halved = merged({
        "merge_method": "passthrough", "models": [entry("a")],
        "parameters": {"scale": [{"filter": "mlp", "value": 0.5}, {"value": 1}]},
    })  # fmt: skip
    close(halved["layers.0.mlp"], MODELS["a"]["layers.0.mlp"] / 2)
    assert torch.equal(halved["layers.0.attn"], MODELS["a"]["layers.0.attn"])


def test_karcher_has_no_use_for_a_base_and_says_so() -> None:
    recipe = {"merge_method": "karcher", "models": [entry("a"), entry("b")]}
    found = geo.run({**recipe, "base_model": "c"}, models=MODELS, data=None)
    assert found.state is not None
    alone = merged(recipe)
    assert all(torch.equal(found.state[name], alone[name]) for name in alone)
    said = [line for line in found.report.warnings if "base_model c has no part in karcher" in line]
    assert len(said) == 1


def test_slices_have_parameters_of_their_own() -> None:
    sources = [{**entry(m, weight=w), "layer_range": [0, LAYERS]} for m, w in (("a", 1), ("b", 3))]
    found = merged({
        "merge_method": "task_arithmetic", "base_model": "base",
        "slices": [{"sources": sources, "parameters": {"lambda": 0.5}}],
        "parameters": {"lambda": 9, "normalize": True},
    })  # fmt: skip
    base, a, b = (MODELS[n]["layers.1.attn"] for n in ("base", "a", "b"))
    close(found["layers.1.attn"], base + 0.5 * (0.25 * (a - base) + 0.75 * (b - base)))


def span(start: int, stop: int, *names: str, **parameters: Any) -> dict[str, Any]:
    """A slice of models."""
    sources = [{"model": name, "layer_range": [start, stop]} for name in names]
    return {"sources": sources, "parameters": parameters}


def test_slices_that_are_the_whole_are_that() -> None:
    slices = [span(0, 1, "a", "b"), span(1, 3, "b", "a")]
    found = merged({"merge_method": "linear", "slices": slices})
    for name, tensor in found.items():
        close(tensor, (MODELS["a"][name] + MODELS["b"][name]) / 2)


def test_each_slice_has_its_parameters_and_its_gradients() -> None:
    edge = {"filter": "embed", "value": 0.5}
    slices = [
        span(0, 2, "a", "b", t=[edge, {"value": [0, 1]}]),
        span(2, 3, "b", "a", t=[edge, {"value": [1, 0.25]}]),
    ]
    found = merged({"merge_method": "slerp", "base_model": "a", "slices": slices})
    assert torch.equal(found["layers.0.attn"], MODELS["a"]["layers.0.attn"])
    assert torch.equal(found["layers.1.attn"], MODELS["b"]["layers.1.attn"])
    whole = {"merge_method": "slerp", "base_model": "a", "models": [entry("a"), entry("b")]}
    quarter = merged({**whole, "parameters": {"t": 0.25}})
    close(found["layers.2.mlp"], quarter["layers.2.mlp"])


def test_slices_of_one_model_each_take_its_layers() -> None:
    """What comes before the layers is the first slice's, and what comes after them the last's."""
    models = {name: _llama(seed) for seed, name in enumerate("ab")}
    slices = [span(0, 1, "a"), span(1, 2, "b")]
    found = geo.run({"merge_method": "passthrough", "slices": slices}, models=models, data=None)
    assert found.state is not None
    for name, tensor in found.state.items():
        first = "embed_tokens" in name or "layers.0" in name
        assert torch.equal(tensor, models["a" if first else "b"].state_dict()[name]), name


def _llama(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    sizes = {"vocab_size": 8, "hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(num_attention_heads=1, **sizes))


def test_slices_of_several_stacks_cannot_be_told_apart() -> None:
    towers = {f"{tower}.layers.{i}.w": torch.ones(2) for tower in "xy" for i in range(2)}
    slices = [span(0, 1, "a", weight=1), span(1, 2, "a", weight=2)]
    recipe = {"merge_method": "linear", "slices": slices}
    with pytest.raises(RecipeError, match=r"several stacks of layers \(x.layers, y.layers\)"):
        geo.run(recipe, models={"a": towers}, data=None)


def test_what_stands_outside_the_layers_follows_the_first_slice_or_the_last() -> None:
    """Told by transformers' model, or else by what it is called."""
    states = {n: {"thing": torch.full((2,), float(i)), **state(i)} for i, n in enumerate("ab")}
    slices = [span(0, 1, "a"), span(1, 3, "b")]
    recipe = {"merge_method": "passthrough", "slices": slices}
    with pytest.raises(RecipeError, match=r"not alike for thing, and whether .*`filter: thing`"):
        geo.run(recipe, models=states, data=None)
    for name, one in states.items():
        del one["thing"]
        one["final_norm"] = torch.full((3,), float("ab".index(name)))
    found = geo.run(recipe, models=states, data=None).state
    assert found is not None
    assert torch.equal(found["embed.weight"], states["a"]["embed.weight"])
    assert torch.equal(found["final_norm"], states["b"]["final_norm"])


def test_slices_may_have_unlike_models_and_bases() -> None:
    """Of any method; a tensor is made of the models of its slice alone."""
    one = {"sources": [entry("a", weight=2), entry("b", weight=1)], "base_model": "base"}
    two = {"sources": [entry("c", weight=1)], "base_model": "a"}
    for slice_, layers in ((one, [0, 1]), (two, [1, 3])):
        slice_["sources"] = [{**each, "layer_range": layers} for each in slice_["sources"]]
    found = merged({
        "merge_method": "task_arithmetic", "slices": [one, two], "parameters": {"lambda": 0.5},
    })  # fmt: skip
    base, a, b, c = (MODELS[name] for name in ("base", "a", "b", "c"))
    name = "layers.0.mlp"
    close(found[name], base[name] + (a[name] - base[name]) + (b[name] - base[name]) / 2)
    name = "layers.2.mlp"
    close(found[name], a[name] + (c[name] - a[name]) / 2)


def test_a_slice_of_one_model_is_that_whatever_the_method() -> None:
    slices = [span(0, 1, "a", "b", t=0.5), span(1, 3, "c")]
    found = merged({"merge_method": "slerp", "base_model": "a", "slices": slices})
    assert torch.equal(found["layers.1.attn"], MODELS["c"]["layers.1.attn"])


def test_modules_have_models_of_their_own() -> None:
    """What no module has is the first model's, and that is said."""
    states = {
        name: {f"{tower}.layers.{i}.w": torch.full((2,), float(seed)) for tower in
               ("vision_tower", "model.language_model") for i in range(2)}
        | {"embed": torch.full((2,), float(seed))}
        for seed, name in enumerate("abc")
    }  # fmt: skip
    recipe = {
        "merge_method": "linear",
        "modules": {
            "vision_tower": {"models": [entry("a", weight=1)]},
            "text_decoder": {"slices": [span(0, 1, "b", "c", weight=1), span(1, 2, "c", weight=1)]},
        },
    }
    found = geo.run(recipe, models=states, data=None)
    assert found.state is not None
    assert {name: tensor[0].item() for name, tensor in found.state.items()} == {
        "vision_tower.layers.0.w": 0, "vision_tower.layers.1.w": 0, "embed": 1.5,
        "model.language_model.layers.0.w": 1.5, "model.language_model.layers.1.w": 2,
    }  # fmt: skip
    alone = {"vision_tower": {"models": [entry("a", weight=1), entry("b", weight=1)]}}
    found = geo.run({"merge_method": "linear", "modules": alone}, models=states, data=None)
    assert found.state is not None
    assert found.state["vision_tower.layers.1.w"][0] == 0.5
    assert found.state["model.language_model.layers.1.w"][0] == 0
    said = r"3 tensors \(model.language_model.layers.0.w\) are of no module: they are those of a"
    assert any(re.search(said, line) for line in found.report.warnings)
    recipe["modules"] = {"visionn_tower": recipe["modules"]["vision_tower"]}  # type: ignore[index]
    with pytest.raises(RecipeError, match=r"no module visionn_tower .*did you mean vision_tower\?"):
        geo.run(recipe, models=states, data=None)
    with pytest.raises(RecipeError, match="a module has models or slices, found none of them"):
        geo.run({"merge_method": "linear", "modules": {"encoder": {}}}, models=states)


def test_dtypes_as_torch_writes_them(save: Save, tmp_path: Path) -> None:
    recipe = {"merge_method": "linear", "models": [entry(str(save("a")))], "dtype": "torch.float16"}
    geo.run(recipe, tmp_path / "out", data=None, output=geo.OutputConfig(fsync=False))
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "float16"


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (
            {
                "merge_method": "linear",
                "models": [entry("a", weight=[{"filter": "mlp", "value": 1}])],
            },
            "weight of a: no filter matches embed.weight",
        ),
        (
            {"merge_method": "linear", "models": [entry("a", weight=[1, 0]), entry("b", weight=0)]},
            "tensor layers.2.attn: the weights 0, 0 sum to zero",
        ),
        (
            {
                "merge_method": "slerp",
                "base_model": "a",
                "models": [entry("b")],
                "parameters": {"t": 2},
            },
            r"recipe: parameters\.t: t must lie in \[0, 1\], found 2",
        ),
        ({"merge_method": "greedy", "models": [entry("a"), entry("b")]}, "objective: greedy ch"),
        (
            {
                "merge_method": "along",
                "along": {"kind": "linear"},
                "models": [entry("a"), entry("b")],
            },
            "objective: along chooses by loss, and nothing says on what data",
        ),
        ({"merge_method": "along", "models": [entry("a"), entry("b")]}, "the key along go"),
        (
            {
                "merge_method": "linear",
                "models": [entry("a")],
                "tokenizer": {"source": "a", "pad_to_multiple_of": 64},
            },
            "tokenizer: no model has a tokenizer, and which row is which token's has to be known",
        ),
        (
            {"merge_method": "linear", "slices": [span(0, 3, "a"), span(1, 4, "a")]},
            r"layer_range \[1, 4\] goes beyond a, which has 3 layers .*\[0, 3\] takes all",
        ),
        (
            {
                "merge_method": "linear",
                "slices": [
                    {"sources": [*span(0, 2, "a")["sources"], *span(0, 3, "b")["sources"]]},
                    span(2, 3, "a", "b"),
                ],
            },
            r"layers \[0, 2\] of a and \[0, 3\] of b: 2 layers cannot be merged with 3",
        ),
        (
            {
                "merge_method": "linear",
                "models": [entry("a")],
                "tokenizer_source": "a",
                "tokenizer": {"source": "a"},
            },
            r"tokenizer and tokenizer_source say the same \(leave one",
        ),
        (
            {"merge_method": "linear", "models": [entry("a")], "tokenizer": {"source": "x"}},
            "tokenizer_source: x is none of the models.*base, union, or one of model 1",
        ),
        (
            {"merge_method": "linear", "models": [entry("a")], "chat_template": "llama9"},
            "no chat template .llama9. .*auto, alpaca, chatml, .*, mistral, or the Jinja",
        ),
    ],
)
def test_recipes_refused_with_their_models_open(recipe: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        geo.run(recipe, models=MODELS)


def test_a_gradient_needs_layers() -> None:
    recipe = {"merge_method": "linear", "models": [entry("m", weight=[0, 1])]}
    with pytest.raises(RecipeError, match=r"a gradient runs over layers, and model 1 .* has no"):
        geo.run(recipe, models={"m": {"w": torch.ones(2)}}, data=None)


def test_a_filter_that_matches_nothing_is_a_warning() -> None:
    weight = [{"filter": "self_attn", "value": 3}, {"value": 1}]
    recipe = {"merge_method": "linear", "models": [entry("a", weight=weight), entry("b", weight=1)]}
    found = geo.run(recipe, models=MODELS, data=None)
    assert any("'self_attn' matches no tensor; the nearest" in w for w in found.report.warnings)


def test_dry_run_resolves_what_run_does(save: Save, tmp_path: Path) -> None:
    recipe = {
        "merge_method": "linear",
        "models": [entry("a", weight=[0, 1]), entry("b", weight=1)],
    }
    rows = dry_run(recipe, models=MODELS).measurements.rows
    by_layer = {row.layer: row.weights for row in rows}
    for layer, own in (("layers.0", 0.0), ("layers.1", 0.5), ("layers.2", 1.0)):
        np.testing.assert_allclose(by_layer[layer], [own / (own + 1), 1 / (own + 1)])
    assert sum(len(row.tensors) for row in rows) == len(MODELS["a"])


def test_dry_run_refuses_models_that_do_not_belong_together() -> None:
    recipe = {"merge_method": "linear", "models": [entry("a"), entry("other")]}
    with pytest.raises(IncompatibleError, match=r"embed\.weight"):
        dry_run(recipe, models={**MODELS, "other": {"w": torch.ones(1)}})


def test_the_command(save: Save, tmp_path: Path) -> None:
    recipe, out = tmp_path / "r.yml", tmp_path / "out"
    recipe.write_text(
        f"merge_method: linear\nmodels:\n- model: {save('a')}\n- model: {save('b')}\n"
    )
    run = CliRunner()
    dry = run.invoke(app, ["run", str(recipe), "-o", str(out), "--dry-run"])
    assert dry.exit_code == 0, dry.stderr
    assert "nothing was written" in dry.stdout
    assert not out.exists()
    plan = run.invoke(app, ["run", str(recipe), "-o", str(out), "--dry-run", "--json"])
    result = json.loads(plan.stdout)["result"]
    assert result["written"] == 4 * (8 * 4 + 6 * 4 + 4)
    assert result["rows"][0]["weights"] == [0.5, 0.5]
    done = run.invoke(app, ["run", str(recipe), "-o", str(out), "--no-eval", "--no-fsync"])
    assert done.exit_code == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["command"] == "run"
    assert report["provenance"]["command"].startswith(f"geo-merge run {out}/recipe.yml -o {out}")


def test_the_command_says_where_a_recipe_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "r.yml").write_text("merge_method: linear\nmodel: a\n")
    done = CliRunner().invoke(app, ["run", str(tmp_path / "r.yml"), "-o", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "r.yml, line 2: unknown key model (did you mean models?" in done.stderr


def test_the_recipe_beside_the_weights_has_the_commits(save: Save, tmp_path: Path) -> None:
    """As a merge from the Hub records them, whose snapshots know their commit."""
    found = {f"org/{n}": open_folder(save(n), f"org/{n}", n * 40) for n in "ab"}
    recipe = {"merge_method": "slerp", "base_model": "org/a", "models": [entry("org/b")],
              "parameters": {"t": 0.5}}  # fmt: skip
    geo.run(recipe, tmp_path / "out", models=found, data=None, output=geo.OutputConfig(fsync=False))
    kept = read_recipe(tmp_path / "out" / "recipe.yml")
    assert kept.base_model == f"org/a@{'a' * 40}"
    assert kept.models is not None
    assert kept.models[0].model == f"org/b@{'b' * 40}"


def test_an_architecture_in_the_place_of_the_stated_one(save: Save, tmp_path: Path) -> None:
    """The models are compared by it, and the output states it."""
    one = open_folder(save("a", config={"architectures": ["Other"]}), "org/a", "a" * 40)
    known = {"org/a": one, "b": save("b")}
    recipe = {"merge_method": "linear", "models": [entry("org/a"), entry("b")]}
    with pytest.raises(IncompatibleError, match="different architectures: org/a is Other, "):
        geo.run(recipe, models=known, data=None)
    recipe["models"][0]["model"] = {  # type: ignore[index]
        "model": {"path": "org/a"}, "override_architecture": "LlamaForCausalLM",
    }  # fmt: skip
    fast = geo.OutputConfig(fsync=False)
    geo.run(recipe, tmp_path / "out", models=known, data=None, output=fast)
    stated = json.loads((tmp_path / "out" / "config.json").read_text())
    assert stated["architectures"] == ["LlamaForCausalLM"]
    kept = read_recipe(tmp_path / "out" / "recipe.yml")
    assert kept.architectures == {f"org/a@{'a' * 40}": "LlamaForCausalLM"}


def test_a_seed_of_the_call_is_that_of_the_masks() -> None:
    said = {
        "merge_method": "dare_linear", "base_model": "base", "seed": 1,
        "models": [entry("a", weight=1, density=0.5)],
    }  # fmt: skip
    own, same, other = (
        geo.run(said, models=MODELS, data=None, seed=seed).state or {} for seed in (None, 1, 2)
    )
    assert all(torch.equal(own[name], same[name]) for name in own)
    assert not all(torch.equal(own[name], other[name]) for name in own)


def test_a_recipe_from_standard_input(save: Save) -> None:
    recipe = yaml.safe_dump({"merge_method": "passthrough", "models": [entry(str(save("a")))]})
    done = CliRunner().invoke(app, ["run", "-", "--dry-run"], input=recipe)
    assert "nothing was written" in done.stdout, done.stderr
    done = CliRunner().invoke(app, ["run", "-", "--dry-run"], input="merge: a\n")
    assert "standard input, line 1: unknown key merge" in done.stderr


def test_what_the_call_says_goes_before_the_recipe(family: Path) -> None:
    recipe = {
        "merge_method": "linear", "models": [entry(str(family / "a")), entry(str(family / "b"))],
        "objective": {"data": "builtin:python-docs", "seq_len": 8, "max_examples": 150},
        "sharpness": "off", "seed": 3,
    }  # fmt: skip
    found = geo.run(recipe, data=geo.EvalData(seq_len=16))
    settings = found.report.settings["data"]
    assert (settings["seq_len"], settings["max_examples"], settings["seed"]) == (16, 150, 3)
    assert found.report.data is not None
    assert found.measurements.losses


def test_the_midpoint_of_a_path_needs_no_objective() -> None:
    recipe = {"merge_method": "along", "models": [entry("a"), entry("b")]}
    found = merged({**recipe, "along": {"kind": "linear", "pick": "midpoint"}})
    close(found["layers.1.mlp"], (MODELS["a"]["layers.1.mlp"] + MODELS["b"]["layers.1.mlp"]) / 2)


CALL = {"--sharpness": "quick", "--seed": "0", "--loss-on": "assistant"}


@pytest.mark.slow
def test_the_call_goes_before_the_recipe_even_where_it_says_the_default(
    small: Path, text: Path, tmp_path: Path
) -> None:
    objective = {"data": str(text), "loss_on": "all", "seq_len": 8, "max_examples": 8}
    models = [{"model": str(small / name)} for name in "ab"]
    recipe = {"merge_method": "linear", "models": models, "parameters": {"weight": 1},
              "objective": objective, "sharpness": "off", "seed": 5}  # fmt: skip
    path = tmp_path / "recipe.yml"
    path.write_text(yaml.safe_dump(recipe))
    asked = {}
    for name, flags in (("recipe", {}), ("call", CALL)):
        words = ["run", path, "-o", tmp_path / name, *sum(flags.items(), ()), "--json"]
        done = CliRunner().invoke(app, list(map(str, words)))
        assert done.exit_code == 0, done.stderr
        said = json.loads(done.stdout)["settings"]
        asked[name] = said["sharpness"], said["data"]["seed"], said["data"]["loss_on"]
    assert asked == {"recipe": ("off", 5, "all"), "call": ("quick", 0, "assistant")}


@pytest.mark.parametrize(("flags", "seeds"), [([], [5, 6]), (["--seed", "0"], [0, 1])])
@pytest.mark.parametrize("more", [[], ["--no-eval"], ["--data", "builtin:python-docs"]])
def test_members_are_trained_with_the_seed_of_the_call(
    small: Path, text: Path, tmp_path: Path, flags: list[str], seeds: list[int], more: list[str]
) -> None:
    entry = {"name": "m", "model": str(small / "a"), "train_data": str(text), "members": 2}
    models = [{"model": f"m-{i}", "parameters": {"weight": 1}} for i in range(2)]
    recipe = {"merge_method": "linear", "finetune": [entry], "models": models, "seed": 5}
    path = tmp_path / "recipe.yml"
    path.write_text(yaml.safe_dump(recipe))
    words = ["run", str(path), "--dry-run", "--json", *flags, *more]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    assert [row["seed"] for row in json.loads(done.stdout)["result"]["members"]] == seeds
