"""geo.soup, geo.slerp and geo.check on real checkpoints and in memory."""

import json
import math
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.checkpoints.dtypes import rounded
from mergekit_geo.cli.app import app
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.errors import (
    ArgumentError,
    DataError,
    IncompatibleError,
    NonFiniteError,
    OutputError,
)
from mergekit_geo.evaluation.plan import failure
from mergekit_geo.evaluation.points import _Gone
from mergekit_geo.progress import Silent
from mergekit_geo.records.report import Report
from tests.conftest import Save

pytestmark = pytest.mark.pictures

FAST = geo.OutputConfig(fsync=False)


@pytest.fixture(scope="module")
def merged(family: Path, tmp_path_factory: pytest.TempPathFactory) -> geo.Result:
    out = tmp_path_factory.mktemp("merged") / "soup"
    models = [family / name for name in "abc"]
    data = geo.EvalData(max_examples=120)
    return geo.soup(models, out, output=FAST, data=data, sharpness="off")


def naive_losses(folder: Path, most: int) -> tuple[float, int]:
    """Token-weighted mean loss by transformers itself, window by window."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [tokenizer(document.text)["input_ids"] for document in builtin_documents("held-out")]
    windows = [text[i : i + 64] for text in texts for i in range(0, len(text), 64)]
    windows = [window for window in windows if len(window) > 1]
    chosen = sorted(random.Random(0).sample(range(len(windows)), most))
    total = tokens = 0.0
    for window in (windows[i] for i in chosen):
        ids = torch.tensor([window])
        with torch.no_grad():
            total += model(input_ids=ids, labels=ids).loss.item() * (len(window) - 1)
        tokens += len(window) - 1
    return total / tokens, int(tokens)


@pytest.mark.slow
def test_output_loads_without_a_missing_or_unexpected_key(merged: geo.Result) -> None:
    _, info = AutoModelForCausalLM.from_pretrained(merged.out, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_weights_are_the_mean(merged: geo.Result, family: Path) -> None:
    assert merged.out is not None
    parents = [load_file(family / name / "model.safetensors") for name in "abc"]
    for name, tensor in load_file(merged.out / "model.safetensors").items():
        mean = sum(parent[name].double() for parent in parents) / 3
        assert isinstance(mean, torch.Tensor)
        torch.testing.assert_close(tensor, mean.float(), rtol=2e-7, atol=1e-9)


def test_reported_loss_is_recomputed_independently(merged: geo.Result, family: Path) -> None:
    assert merged.out is not None
    first, *_, last = merged.measurements.losses
    for entry, folder in ((first, family / "a"), (last, merged.out)):
        loss, tokens = naive_losses(folder, 120)
        assert entry.loss == pytest.approx(loss, abs=1e-4)
        assert entry.perplexity == pytest.approx(math.exp(loss), rel=1e-3)
        assert merged.report.data is not None
        assert merged.report.data.tokens == tokens


def test_soup_of_fine_tunes_is_not_worse_than_the_worst_parent(merged: geo.Result) -> None:
    *parents, output = (entry.loss for entry in merged.measurements.losses)
    assert output <= max(parents)


def test_report_is_what_was_returned(merged: geo.Result) -> None:
    assert merged.out is not None
    written = Report.model_validate_json((merged.out / "report.json").read_text())
    assert written == merged.report
    keys = json.loads((merged.out / "report.json").read_text())
    pinned = (
        "schema_version command status output models settings data result warnings not_measured"
    )
    assert {*pinned.split(), "verdict", "provenance"} == keys.keys()
    assert set(keys["result"]) == {
        "coefficients", "losses", "differences", "barriers", "sharpness", "geometry", "selection",
        "unmerged", "tokenization", "layers", "influence", "examples",
    }  # fmt: skip


def test_everything_that_an_output_holds(merged: geo.Result, family: Path) -> None:
    assert merged.out is not None
    for file in ("config.json", "tokenizer.json", "generation_config.json"):
        assert (merged.out / file).read_bytes() == (family / "a" / file).read_bytes()
    recipe = json.loads((merged.out / "merge.json").read_text())
    assert recipe["method"] == "linear"
    branches = {entry["branch"] for entry in recipe["tensors"].values()}
    assert branches == {"linear"}
    card = (merged.out / "README.md").read_text()
    assert "tags:\n- merge\n" in card
    assert f"{merged.measurements.losses[-1].perplexity:.4g}" in card
    assert len(merged.measurements.barriers) == 3
    assert "![Losses, and the output's paired differences](figures/losses.png)" in card
    assert (merged.out / "figures" / "barrier.png").read_bytes().startswith(b"\x89PNG")
    assert (merged.out / "figures" / "barrier.csv").read_text().count("\n") == 3 * 5 + 1


def test_geometry_is_that_of_the_models(merged: geo.Result, family: Path) -> None:
    geometry = merged.measurements.geometry
    assert geometry is not None
    a, b = (load_file(family / name / "model.safetensors") for name in "ab")
    flat_a, flat_b = (torch.cat([s[n].double().flatten() for n in a]) for s in (a, b))
    pair = geometry.total.pairs[0]
    assert pair.distance == pytest.approx((flat_a - flat_b).norm().item(), rel=1e-6)
    assert pair.cosine == pytest.approx(
        torch.nn.functional.cosine_similarity(flat_a, flat_b, dim=0).item(), rel=1e-6
    )
    assert geometry.total.parameters == flat_a.numel()
    layers = {layer.layer: layer for layer in geometry.layers}
    assert "model.layers.1" in layers
    squares = sum(layer.norms[0] ** 2 for layer in geometry.layers)
    assert geometry.total.norms[0] == pytest.approx(math.sqrt(squares))


def test_result_prints_well(merged: geo.Result) -> None:
    text = str(merged)
    assert text.startswith("linear of ")
    assert "output" in text


def test_slerp_in_memory_has_the_losses_too(family: Path) -> None:
    data = geo.EvalData(max_examples=40)
    found = geo.slerp([family / "a", family / "b"], t=0.4, data=data, sharpness="off")
    assert found.out is None
    assert found.state is not None
    assert len(found.measurements.losses) == 3
    a, b = (load_file(family / name / "model.safetensors") for name in "ab")
    name = "model.layers.0.mlp.up_proj.weight"
    x, y = a[name].double().flatten(), b[name].double().flatten()
    theta = torch.arccos(x @ y / (x.norm() * y.norm()))
    expected = (torch.sin(0.6 * theta) * x + torch.sin(0.4 * theta) * y) / torch.sin(theta)
    torch.testing.assert_close(found.state[name].flatten(), expected.float(), rtol=1e-6, atol=1e-8)


def test_three_models_make_a_karcher_mean(family: Path) -> None:
    found = geo.slerp([family / name for name in "abc"], data=None)
    assert found.measurements.coefficients.method == "karcher"
    assert found.measurements.coefficients.branches == {"karcher": 20}


def test_modules_and_state_dicts_are_models() -> None:
    one, two = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    found = geo.soup([one, two.state_dict()], weights=[3, 1])
    assert found.state is not None
    expected = 0.75 * one.weight + 0.25 * two.weight
    torch.testing.assert_close(found.state["weight"], expected.detach())
    assert "tokenizer" in found.report.not_measured[0].why


def test_module_is_written_with_its_config(family: Path, tmp_path: Path) -> None:
    models = [AutoModelForCausalLM.from_pretrained(family / name) for name in "ab"]
    geo.soup(models, tmp_path / "out", output=FAST)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    mean = (models[0].lm_head.weight + models[1].lm_head.weight) / 2
    torch.testing.assert_close(again.lm_head.weight, mean)


def test_what_is_not_measured_is_listed(save: Save, tmp_path: Path) -> None:
    config = {"architectures": ["ViTForImageClassification"], "model_type": "vit"}
    found = geo.soup([save("a", config=config), save("b", config=config)], tmp_path / "out")
    missing = found.report.not_measured
    assert [item.what for item in missing] == ["losses", "barriers", "sharpness"]
    assert "image-classification cannot be measured on the built-in text" in missing[0].why
    assert missing[0].command.startswith("geo-merge soup ")


def test_failed_evaluation_loses_no_weights(save: Save, tmp_path: Path) -> None:
    """These folders have no tokenizer, so that nothing can be measured."""
    config = {"num_attention_heads": 1, "num_key_value_heads": 1}
    models = [save(name, config=config) for name in "ab"]
    found = geo.soup(models, tmp_path / "out", output=FAST)
    assert "no tokenizer beside the weights" in found.report.not_measured[0].why
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_loss_that_is_not_a_number_is_no_loss(family: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in (family / "a").iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    state = load_file(broken / "model.safetensors")
    state["model.norm.weight"][0] = torch.nan
    save_file(state, broken / "model.safetensors", metadata={"format": "pt"})
    found = geo.soup(
        [broken, family / "b"],
        tmp_path / "out",
        data=geo.EvalData(max_examples=40),
        output=geo.OutputConfig(allow_nonfinite=True),
    )
    assert "the loss is not a number" in found.report.not_measured[0].why
    assert any("1 elements of" in warning for warning in found.report.warnings)


def test_a_resumed_merge_counts_what_was_lost_before(save: Save, tmp_path: Path) -> None:
    state = {f"w{i}": torch.full((3,), 3e38) for i in range(3)}
    models, out = [save("a", state), save("b", state)], tmp_path / "out"

    class Stopping(Silent):
        done = 0

        def advance(self, count: int) -> None:
            self.done += count
            if self.done == 9:
                raise KeyboardInterrupt

    output = geo.OutputConfig(allow_nonfinite=True, fsync=False)
    options: dict[str, Any] = {"weights": [1, 1], "normalize": False, "data": None}
    with pytest.raises(KeyboardInterrupt):
        geo.soup(models, out, output=output, progress=Stopping(), **options)
    report = geo.soup(models, out, output=output, **options).report
    assert report.settings["alignment"] == ["resumed: 3 tensors were written already"]
    assert any(warning.startswith("9 elements are finite in every") for warning in report.warnings)
    with pytest.raises(NonFiniteError, match=r"tensor w.: 3 elements are finite in every model"):
        geo.soup(models, **options)


def test_a_parameter_that_outgrew_its_dtype_is_not_written() -> None:
    with pytest.raises(NonFiniteError, match="tensor w: 1 elements are finite and do not fit F16"):
        rounded("w", torch.tensor([7e4, torch.nan, 1.0]), "F16")


def test_sharded_output_in_another_dtype(family: Path, tmp_path: Path) -> None:
    output = geo.OutputConfig(dtype="bfloat16", max_shard_size="150KB", fsync=False)
    geo.soup([family / "a", family / "b"], tmp_path / "out", output=output, data=None)
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) == 3
    again, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert again.dtype == torch.bfloat16
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


def test_check_agrees_with_merge(family: Path, save: Save) -> None:
    assert geo.check([family / "a", family / "b"]).compatible
    found = geo.check([family / "a", save("tiny")])
    assert not found.compatible
    assert "cannot be merged" in str(found)
    with pytest.raises(IncompatibleError, match="cannot be merged"):
        geo.soup([family / "a", save("tiny2")], data=None)


def test_bad_arguments(save: Save, tmp_path: Path) -> None:
    a, b = save("a"), save("b")
    with pytest.raises(ArgumentError, match="no models to merge"):
        geo.soup([])
    with pytest.raises(ArgumentError, match="sum to zero"):
        geo.soup([a, b], weights=[1, -1])
    with pytest.raises(ArgumentError, match="expected one of float64"):
        geo.OutputConfig(dtype="int8")
    with pytest.raises(ArgumentError, match="sharpness 'loud'"):
        geo.soup([a, b], sharpness="loud")
    with pytest.raises(DataError, match="no such file"):
        geo.soup([a, b], tmp_path / "out", data=geo.EvalData("missing.txt"))
    with pytest.raises(OutputError, match="would touch the input"):
        geo.soup([a, b], a / "out", data=None)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_negative_weight_is_allowed_with_a_warning(save: Save) -> None:
    found = geo.soup([save("a"), save("b")], weights=[1.5, -0.5], data=None)
    assert found.report.warnings == ["weight -0.5 is negative"]
    assert found.measurements.coefficients.weights == [1.5, -0.5]


def test_unnormalised_weights() -> None:
    states = [{"w": torch.ones(3)}, {"w": torch.ones(3)}]
    found = geo.soup(states, weights=[1, 1], normalize=False, data=None)
    assert found.state is not None
    assert found.state["w"].tolist() == [2, 2, 2]


def test_tied_module_takes_its_soup_back(family: Path) -> None:
    models = [AutoModelForCausalLM.from_pretrained(family / name) for name in "ab"]
    found = geo.soup(models)
    assert found.state is not None
    models[0].load_state_dict(found.state)


def test_command_that_measures_makes_the_same_merge(save: Save, tmp_path: Path) -> None:
    found = geo.soup(
        [save("a b"), save("c")], tmp_path / "out", weights=[0.9, 0.1], normalize=False,
        output=geo.OutputConfig(dtype="float16", fsync=False), data=None,
    )  # fmt: skip
    command = found.report.not_measured[0].command
    assert command == (
        f"geo-merge soup '{tmp_path}/a b' {tmp_path}/c -o {tmp_path}/out --no-normalize "
        "--weights=0.9,0.1 --dtype=float16 --overwrite --no-fsync"
    )


RECIPE = (
    "{'merge_method': 'ties', 'base_model': f + '/c', 'models': "
    "[{'model': f + '/a', 'parameters': {'weight': 1, 'density': 0.5}}]}"
)


@pytest.mark.parametrize("call", ["soup([f + '/a', f + '/b'], out", f"run({RECIPE}, out"])
@pytest.mark.slow
def test_merge_without_evaluation_loads_no_torch(call: str, family: Path, tmp_path: Path) -> None:
    code = (
        "import sys, mergekit_geo as g; f, out = sys.argv[1:]; "
        f"g.{call}, data=None, sharpness='off'); print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(family), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ArgumentError, match="expected a list of models, found one"):
        geo.soup("one")
    with pytest.raises(ArgumentError, match="model 1 is a int"):
        geo.soup([3])  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match="expected a tensor under 'w', found a dict"):
        geo.soup([{"w": {}}])  # type: ignore[dict-item]


def test_tokenizer_that_fails_loses_no_weights(family: Path, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for path in (family / name).iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
        (tmp_path / name / "tokenizer.json").write_text("{}")
    found = geo.soup([tmp_path / "a", tmp_path / "b"], tmp_path / "out", output=FAST)
    assert found.report.not_measured[0].what == "losses"
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_refused_merge_leaves_nothing(save: Save, tmp_path: Path) -> None:
    bad = save("bad", {"w": torch.tensor([1.0, torch.nan])})
    with pytest.raises(geo.GeoError, match="NaN or infinite"):
        geo.soup([save("good", {"w": torch.ones(2)}), bad], tmp_path / "out", data=None)
    assert not (tmp_path / "out.partial").exists()


def test_data_that_was_named_is_measured_or_an_error(save: Save, tmp_path: Path) -> None:
    """What files and configuration tell is found before anything is merged."""
    config = {"num_attention_heads": 1, "num_key_value_heads": 1}
    models = [save(name, config=config) for name in "ab"]
    text = tmp_path / "x.jsonl"
    text.write_text('{"text": "a b c"}\n')
    with pytest.raises(DataError, match="no tokenizer beside the weights"):
        geo.soup(models, tmp_path / "out", data=geo.EvalData(str(text)))
    with pytest.raises(DataError, match=r"a model in memory comes without its tokenizer.*Function"):
        geo.soup([torch.nn.Linear(1, 1)], data=geo.EvalData(str(text)))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_a_measurement_that_fails_at_last_leaves_the_output_whole(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that is not a number shows only when it is measured."""
    for name in "ab":
        shutil.copytree(family / name, tmp_path / name)
        state = load_file(tmp_path / name / "model.safetensors")
        state["model.norm.weight"][0] = torch.nan
        save_file(state, tmp_path / name / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.chdir(tmp_path)
    words = ["soup", "a", "b", "-o", "out", "--no-fsync", "--allow-nonfinite", "--sharpness=off"]
    words += ["--max-examples", "40"]
    done = CliRunner().invoke(app, [*words, "--data", "builtin:python-docs"])
    assert done.exit_code == 1
    assert "geo-merge soup: out is complete; losses not measured: a: the loss is not" in done.stderr
    missing, *_ = geo.read_report(tmp_path / "out").not_measured
    assert (missing.what, missing.failed, missing.command) == ("losses", True, "")
    assert CliRunner().invoke(app, [*words, "--overwrite"]).exit_code == 0


def test_a_fault_of_ours_is_not_told_as_not_measured() -> None:
    with pytest.raises(AssertionError) as ours:
        _ = _Gone().model
    found = failure(ours.value, geo.EvalData())
    assert found.fails
    assert "this should not happen" in found.reason
    with pytest.raises(AssertionError) as other:
        raise AssertionError("a model's own code")
    assert not failure(other.value, geo.EvalData()).fails


@pytest.mark.slow
def test_the_loss_of_text_alone_of_a_model_that_reads_pictures(
    family: Path, tmp_path: Path
) -> None:
    text = LlamaConfig.from_pretrained(family / "a")
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        image_size=8, patch_size=4,
    )  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=1023)
    for name in "ab":
        torch.manual_seed(ord(name))
        LlavaForConditionalGeneration(config).save_pretrained(tmp_path / name)
        AutoTokenizer.from_pretrained(family / "a").save_pretrained(tmp_path / name)
    lines = [f"{number} green boats drift past" for number in range(20)]
    (tmp_path / "x.jsonl").write_text("".join(f'{{"text": "{line}"}}\n' for line in lines))
    data = geo.EvalData(str(tmp_path / "x.jsonl"), task="causal-lm")
    found = geo.soup([tmp_path / "a", tmp_path / "b"], data=data, sharpness="off")
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path / "a").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    total, count = 0.0, 0
    for line in lines:
        ids = tokenizer(line, return_tensors="pt")["input_ids"]
        logits = model(input_ids=ids).logits[0, :-1].detach().double()
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    assert found.measurements.losses[0].loss == pytest.approx(total / count, abs=1e-5)
    assert found.report.data is not None
    assert any("text alone" in note for note in found.report.data.notes)
