"""Recipes that are not valid, and what is said of them."""

import re
from pathlib import Path

import pytest

from mergekit_geo.errors import RecipeError
from mergekit_geo.merging.methods import ELSEWHERE
from mergekit_geo.recipes.inputs import Inputs, inputs_of
from mergekit_geo.recipes.reading import read_document, read_recipe
from mergekit_geo.recipes.values import at

AB = "models: [{model: a}, {model: b}]\n"


def read(text: str) -> Inputs:
    return inputs_of(read_recipe(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("merge_method: linear\nmodels: [a\n", "line 3, column 1: not sound YAML"),
        ("merge_method: linear\n\tmodels: []\n", "line 2, column 1: .*indent with spaces"),
        ("- linear\n- b\n", "a recipe is a mapping, found list"),
        ("merge_method: linear\nmodel: a\n", "line 2: unknown key model .*mean models"),
        (f"merge_method: linear\nmerge_method: slerp\n{AB}", "line 2: merge_method is there twice"),
        (
            f"merge_method: linear\n{AB}dtype: float32\n# ...\ndtype: float16\n",
            "line 5: dtype is there twice: line 3 says something else",
        ),
        (AB + "x: 1\n", "unknown key x .*known here: along, architectures"),
        (AB + "\n", "merge_method is missing"),
        ("merge_method: linear\nmodels: 3\n", "line 2: models: input should be a valid list"),
        ("merge_method: linear\nmodels: [a]\n", r"models\[0\]: .*a mapping, .*write `model: a`"),
        (f"merge_method: linear\n{AB}tokenizer: union\n", "a mapping, .*write `source: union`"),
        ("merge_method: linear\nmodels:\n - {modle: a}\n", r"models\[0\].modle .*mean model\?"),
        (
            "merge_method: ties\nmodels:\n - {model: a, desnity: 0.5}\n",
            r"models\[0\]\.desnity \(did you mean density under parameters\?",
        ),
        (f"merge_method: linear\n{AB}dtype: int8\n", "dtype: input should be 'float64'"),
        (
            f"merge_method: linear\n{AB}tokenizer:\n  tokens:\n    x: {{force: true}}\n",
            "line 5: tokenizer.tokens.x: force gives every model one row, and no source says which",
        ),
        (
            f"merge_method: linear\n{AB}tokenizer: {{pad_to_multiple_of: 0}}\n",
            "tokenizer.pad_to_multiple_of: .*greater than or equal to 1, found 0",
        ),
        (
            f"name: one\nmerge_method: linear\n{AB}---\nmerge_method: linear\n{AB}",
            r"line 5: expected one recipe, found 2",
        ),
        (
            "merge_method: linear\nmodules:\n  encoder: {dtype: float32}\n"
            "  decoder: {dtype: float16}\n",
            "line 2: the modules have unlike values of dtype: float16, float32 .*one dtype",
        ),
        (
            "merge_method: linear\nslices:\n- sources:\n  - {model: a, layer_range: [3, 3]}\n",
            r"line 4: slices\[0\].sources\[0\].layer_range: \[3, 3\] is empty: the upper bound is",
        ),
        (
            "merge_method: linear\nslices:\n- sources:\n  - {model: a, layer_range: 0-8}\n",
            r"line 4: .*layer_range: expected the first layer and the one after the last, found '0",
        ),
        (
            "merge_method: linear\nslices:\n- sources:\n  - {model: a, layer_range: [4, 2]}\n",
            r"line 4: .*layer_range: \[4, 2\] is reversed .*write \[2, 4\]",
        ),
        (
            "merge_method: linear\nslices:\n- sources:\n  - {model: a, layer_range: [-1, 2]}\n",
            r"line 4: .*layer_range: \[-1, 2\] goes below layer 0",
        ),
        (
            f"merge_method: linear\n{AB}modules: {{default: {{}}}}\n",
            "line 3: a recipe has models, slices or modules: one of them",
        ),
        (
            "merge_method: linear\nmodules:\n  default:\n    slicse: []\n",
            r"line 4: unknown key modules.default.slicse .*mean slices\?",
        ),
        (
            "merge_method: linear\nslices:\n- source: [{model: a}]\n",
            r"line 3: unknown key slices\[0\].source .*did you mean sources\?",
        ),
        (
            "merge_method: linear\nmodels:\n- model: {model: {path: a}, lorra: b}\n",
            r"line 3: models\[0\].model: unknown key lorra .*known here: model, lora",
        ),
        (
            "merge_method: linear\nmodels: [{model: {lora: 3}}]\n",
            r"line 2: models\[0\].model: expected a model, found None",
        ),
        (
            "merge_method: linear\nmodels: [{model: {model: a, lora: 3}}]\n",
            r"line 2: models\[0\].model: expected a model, found 3",
        ),
        (
            "merge_method: linear\nmodels: [{model: {model: a, override_architecture: 3}}]\n",
            r"line 2: models\[0\].model: override_architecture: expected the name of a cl.*found 3",
        ),
        (
            "merge_method: linear\nbase_model: {model: a, override_architecture: X}\n"
            "models: [{model: {model: a, override_architecture: Y}}]\n",
            "^recipe: a has two architectures, X and Y .name one of them",
        ),
        (f"merge_method: linear\n{AB}tokenizer: {{sorce: base}}\n", r"sorce .*mean source\?"),
        (f"merge_method: linear\n{AB}experts: []\n", "mixture of experts makes another arch"),
        ("genome: {}\n", "genome: `geo-merge search` tries recipes"),
        (f"merge_method: along\n{AB}along: {{kid: linear}}\n", r"along.kid .*mean kind\?"),
    ],
)
def test_no_recipe(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        read_recipe(text)


MEMBER = "merge_method: linear\nmodels: [{model: a}, {model: flat}]\nfinetune:\n"
FLAT = " - name: flat\n   model: base\n   train_data: x.txt\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" - {name: flat, model: base}\n", r"line 4: finetune\[0\].train_data is missing"),
        (f"{FLAT}   stepz: 3\n", r"line 7: unknown key finetune\[0\].stepz .*mean steps\?"),
        (f"{FLAT}   steps: true\n", r"line 7: finetune\[0\].steps: .*valid integer, found True"),
        (f"{FLAT}   rho: much\n", r"line 7: finetune\[0\].rho: .*valid number.*found 'much'"),
        (f"{FLAT}   rho: -1\n", r"line 4: finetune\[0\]: rho: expected a number of at least 0"),
        (f"{FLAT}   sam_variant: look\n", r"line 4: finetune\[0\]: variant look: with every=1"),
        (f"{FLAT}   members: 1\n", "line 7: .*members: .*greater than or equal to 2, found 1"),
        (f"{FLAT}   epochs: 1\n   steps: 2\n", "epochs and steps are both given .*one of them"),
        (f"{FLAT}{FLAT}", "line 7: two members are called flat .*a name of its own"),
        (f"{FLAT}   members: 2\n", "line 4: nothing uses flat-0 .*add `- model: flat-0` to models"),
        (f"{FLAT} - {{name: b, model: flat, train_data: x}}\n", "line 7: flat is trained here"),
        (" - {name: ../flat, model: b, train_data: x}\n", r"name: a member lies in .*'../flat'"),
        (" - {name: a.partial, model: b, train_data: x}\n", "found 'a.partial'"),
        (" - flat\n", r"line 4: finetune\[0\]: input should be a mapping, found 'flat'"),
    ],
)
def test_no_member(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        read_recipe(MEMBER + text)


@pytest.mark.parametrize(
    ("along", "said"),
    [
        ("{kind: linear, steps: 3}", "line 3: along: steps is of a fit, and linear is not fitted"),
        ("{kind: bezier, bends: 0}", "line 3: along: bends must be at least 1, found 0"),
        ("{kind: bezier, optimizer: adam}", "line 3: along.optimizer: input should be 'adamw' or"),
        ("{kind: linear, tolerance: 2}", "share of the lowest loss, found 2"),
        ("{kind: bezier, seed: -1}", "line 3: along.seed: input should be greater than or equal"),
    ],
)
def test_no_path(along: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        read_recipe(f"merge_method: along\n{AB}along: {along}\n")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("seed: true\n", "line 3: seed: input should be a valid integer, found True"),
        ("dtype: torch.int8\n", "line 3: dtype: input should be 'float64', 'float32', 'bfloat16'"),
        ("sharpness: low\n", "line 3: sharpness: input should be 'off', 'quick' or 'full'"),
        ("objective: {data: x, seq_len: 1}\n", "objective: seq-len must be at least 2, found 1"),
    ],
)
def test_no_option(keys: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        read_recipe(f"merge_method: linear\n{AB}{keys}")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read: No such file"):
        read_recipe(tmp_path / "x.yml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"merge_method: slrp\n{AB}", r"no method 'slrp' \(did you mean slerp\? methods: linear, "),
        (f"merge_method: slerp\n{AB}parameters: {{t: 1}}", "add `base_model: a`"),
        (
            f"merge_method: slerp\n{AB}base_model: c\nparameters: {{t: 1}}",
            "base_model c is not one of the two models .*write `base_model: a`",
        ),
        (f"merge_method: slerp\n{AB}base_model: a\n", r"slerp needs t \(add `parameters: {t: 0.5}"),
        (
            "merge_method: slerp\nbase_model: a\nparameters: {t: 1}\n"
            "models: [{model: a}, {model: b}, {model: c}]",
            "slerp takes 1 model beside the base, found 2",
        ),
        (
            f"merge_method: linear\nbase_model: c\n{AB}",
            "linear has no task vectors, and",
        ),
        (f"merge_method: model_stock\n{AB}", "model_stock needs base_model, which the task"),
        (f"merge_method: model_stock\nbase_model: a\n{AB}", "2 or more models .*found 1"),
        (f"merge_method: nuslerp\nbase_model: a\n{AB}", "base_model a is one of the models"),
        (f"merge_method: nuslerp\n{AB}", "nuslerp needs the weight of a, b"),
        (
            "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}, {model: b}]\n",
            "linear needs the weight of b",
        ),
        (f"merge_method: linear\n{AB}parameters: {{weigth: 1}}", r"unknown param.*mean weight\?"),
        (
            "merge_method: ties\nbase_model: c\nmodels:\n- model: a\n  parameters:\n   densty: 1",
            r"line 6: models\[0\]\.parameters\.densty: unknown parameter .*did you mean density\?",
        ),
        (
            "merge_method: ties\nbase_model: c\nslices:\n- sources:\n  - {model: a}\n"
            "  parameters:\n    weight: [1,\n      x]\n",
            r"line 7: slices\[0\]\.parameters\.weight\[1\]: expected a number, .*found 'x'",
        ),
        (
            f"merge_method: slerp\nbase_model: a\n{AB}parameters:\n  t: 2\n",
            r"line 5: parameters\.t: t must lie in \[0, 1\], found 2",
        ),
        (
            "merge_method: ties\nbase_model: c\nmodels:\n- model: a\n  parameters:\n"
            "    weight: 1\n    density: {filter: mlp, value: [1, 1.5]}\n",
            r"line 7: models\[0\]\.parameters\.density: density must lie in .*, found 1\.5",
        ),
        (f"merge_method: liner\n{AB}", r"line 1: merge_method: no method 'liner' \(did you mean"),
        (f"merge_method: passthrough\n{AB}", "takes 1 model, found 2 .*several models: linear"),
        (
            "merge_method: slerp\nbase_model: a\nmodels: [{model: b}, {model: b}]\n",
            r"slerp needs t \(add",
        ),
        ("merge_method: linear\nmodels: []\n", "no models"),
        ("merge_method: linear\nbase_model: a\n", "models, slices or modules, found none of them"),
        ("merge_method: linear\nslices: []\n", "no slices"),
        ("merge_method: linear\nmodules: {default: {}}\n", "slices or modules, found none of them"),
    ],
)
def test_a_recipe_that_its_method_cannot_take(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        read(text)


def test_moe_is_refused_by_name() -> None:
    assert "moe" in ELSEWHERE
    with pytest.raises(RecipeError, match="builds a mixture of experts"):
        read(f"merge_method: moe\n{AB}")


def test_a_tokenizer_as_mergekit_named_it_at_first() -> None:
    assert (
        read_recipe(f"merge_method: linear\n{AB}tokenizer_source: model:b\n").tokenizer_source
        == "b"
    )


def test_the_base_may_be_listed_without_parameters() -> None:
    found = read(f"merge_method: task_arithmetic\nbase_model: a\n{AB}parameters: {{weight: 1}}\n")
    assert (found.base, found.members, found.models) == ("a", ("b",), ("a", "b"))


@pytest.mark.parametrize("name", ["task_arithmetic", "ties", "della_linear"])
def test_task_vectors_of_no_model_leave_the_base(name: str) -> None:
    models = "models: [{model: a, parameters: {weight: 1}}]\nparameters: {normalize: false}\n"
    found = read(f"merge_method: {name}\nbase_model: a\n{models}")
    assert (found.name, found.base, found.members) == ("passthrough", None, ("a",))
    assert any(f"{name} of no model beside its base" in line for line in found.warnings)
    with pytest.raises(RecipeError, match="unknown parameter x"):
        read(f"merge_method: {name}\nbase_model: a\nmodels: [{{model: a}}]\nparameters: {{x: 1}}")


def test_a_key_that_says_the_same_again_says_nothing_new() -> None:
    again = read(f"merge_method: linear\n{AB}merge_method: linear\n")
    assert again == read(f"merge_method: linear\n{AB}")


def test_models_as_mergekit_writes_them_out() -> None:
    recipe = read_recipe(
        "name: 7\nmerge_method: linear\nparameters:\ntokenizer: {}\nmodels:\n"
        "- model: {model: {path: org/a, revision: v1}, lora: {path: org/l}}\n  parameters:\n"
        "- model: {model: {path: b, revision: null}, override_architecture: null}\n---\n"
    )
    assert recipe.models is not None
    assert [entry.model for entry in recipe.models] == ["org/a@v1+org/l", "b"]
    assert (recipe.name, recipe.tokenizer and recipe.tokenizer.source) == ("7", "union")


def test_an_architecture_in_the_place_of_the_stated_one() -> None:
    found = read_recipe(
        "merge_method: ties\nbase_model: {model: {path: org/a}, override_architecture: X}\n"
        "models: [{model: {model: b, lora: l, override_architecture: Y}}, {model: c}]\n"
    )
    assert found.base_model == "org/a"
    assert found.architectures == {"org/a": "X", "b+l": "Y"}
    again = read_recipe(found.model_dump(exclude_none=True, exclude_defaults=True))
    assert again == found


def test_a_model_that_is_listed_twice_counts_once() -> None:
    """As in mergekit, which keeps tensors by model; what the first says goes before."""
    found = read(
        "merge_method: ties\nbase_model: c\nparameters: {density: 0.5}\nmodels:\n"
        "- {model: a, parameters: {weight: 1}}\n- {model: b, parameters: {weight: 2}}\n"
        "- {model: a, parameters: {weight: 3, density: 0.25}}\n"
    )
    assert found.members == ("a", "b")
    assert found.each["weight"] == (1.0, 2.0)
    assert [at(value, "x", 0) for value in found.each["density"]] == [0.25, 0.5]
    assert found.warnings == (
        "a is listed 2 times, and counts once, as in mergekit: raise its weight",
    )


def test_the_default_module_is_the_recipe() -> None:
    found = read_recipe(
        "merge_method: linear\ndtype: float32\nparameters: {weight: 1, normalize: false}\n"
        "modules:\n  default:\n    out_dtype: bfloat16\n    slices:\n    - sources: [{model: a}]\n"
        "    parameters: {weight: {filter: mlp, value: 2}}\n"
    )
    assert (found.modules, found.dtype, found.out_dtype) == (None, "float32", "bfloat16")
    weight = inputs_of(found).each["weight"][0]
    assert weight is not None
    assert [at(weight, name, 0.0) for name in ("mlp.up", "norm")] == [2.0, 1.0]


TIES = "merge_method: ties\nbase_model: c\nmodels:\n- model: a\n"
STACK = "merge_method: ties\nbase_model: c\nslices:\n- sources: [{model: a}]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f"{TIES}  parameters:\n    lambda: 0.5\n",
            r"line 6: models\[0\]\.parameters\.lambda has no effect: lambda is one for the whole "
            r"of ties, not for each model \(write it once, under the recipe's own parameters",
        ),
        (f"{TIES}  parameters: {{normalize: 1}}\n", "line 5: .*normalize is one for the whole of"),
        (
            f"{TIES}  density: 0.5\n",
            r"line 5: models\[0\]\.density has no effect: density stands beside parameters \(write "
            r"`parameters: \{density: \.\.\.\}`\)",
        ),
        (f"{TIES}normalize: true\n", "line 5: normalize has no effect: .*beside parameters"),
        (f"{TIES}  dtype: float16\n", "line 5: .*dtype has no meaning here .*at the top level"),
        (f"{TIES}  layer_range: [0, 2]\n", "line 5: .*write it under a source of slices"),
        (f"{TIES}  lora: org/x\n", r"line 5: .*`model: \{model: \.\.\., lora: \.\.\.\}`"),
        (
            f"{TIES}parameters: {{tokenizer_source: base}}\n",
            r"line 5: parameters\.tokenizer_source has no effect: .*no parameter .*at the top",
        ),
        (f"{TIES}model: b\n", "line 5: model has no effect: .*write it under an entry of models"),
        (f"{TIES}pad_to_multiple_of: 8\n", "line 5: .*write it under tokenizer"),
        (f"{TIES}parameters: {{gamma: 1}}\n", "line 5: .*gamma has no part in ties"),
        (f"{TIES}parameters: {{max_iter: 9}}\n", "line 5: .*max_iter has no part in ties"),
        (
            f"{STACK}  residual_weight: 1\n",
            r"line 5: slices\[0\]\.residual_weight has no effect: mergekit declares it and never",
        ),
        (f"{TIES}parameters: {{smooth: false}}\n", "line 5: .*mergekit-evolve reads it"),
        (f"{TIES}parameters: {{embed_slerp: true}}\n", "line 5: .*embed_slerp has no part in ties"),
        (f"{STACK}  dtype: float16\n", r"line 5: slices\[0\]\.dtype has no effect: dtype has"),
    ],
)  # fmt: skip
def test_known_keys_in_the_wrong_place(text: str, said: str) -> None:
    """mergekit ignores them: the recipe is as it is without them, and that is told."""
    found = read_document(text)
    (warning,) = found.warnings
    assert re.search(f"^recipe, {said}", warning), warning
    assert found.recipe == read_document(TIES if text.startswith(TIES) else STACK).recipe
    with pytest.raises(RecipeError, match=said):
        read_document(text, strict=True)


def test_all_that_has_no_effect_is_told() -> None:
    text = f"{TIES}  density: 0.5\n  parameters: {{lambda: 1}}\nmerge: true\n"
    with pytest.raises(RecipeError, match=r"line 7: unknown key merge .*did you mean merge_method"):
        read_document(text)
    found = read_document(text.replace("merge: true\n", "int8_mask: true\n"))
    assert [line.split(" has")[0] for line in found.warnings] == [
        "recipe, line 5: models[0].density",
        "recipe, line 6: models[0].parameters.lambda",
        "recipe, line 7: int8_mask",
    ]
