"""The model card: what the Hub reads of it, and that names and licenses stay text."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.cli.app import app
from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.losses import DataEntry, DifferenceEntry, Estimate, LossEntry
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.model import License, ModelEntry, differing_licenses
from mergekit_geo.records.report import Report
from mergekit_geo.views.card import model_card
from tests.conftest import Save

MIT, APACHE = License(id="mit"), License(id="apache-2.0")
HOSTILE = (
    "</td><script>alert(1)</script>|![x](http://evil.example/x.png)\n---\nlicense: mit\n---\n"
    "```\n[link](javascript:alert(1)) http://evil.example www.evil.example <img src=x> $$x$$ `c`"
)


@pytest.fixture
def merged(save: Save, tmp_path: Path) -> geo.Result:
    return geo.soup([save("a"), save("b")], tmp_path / "out", data=None)


@pytest.fixture
def report(merged: geo.Result) -> Report:
    return merged.report


def models(*licenses: License | None, **changes: Any) -> list[ModelEntry]:
    entry = ModelEntry(
        name="org/a", revision="f" * 40, parameters=1, architecture="LlamaForCausalLM"
    )
    return [
        entry.model_copy(update={"license": found, "name": f"org/m{i}", **changes})
        for i, found in enumerate(licenses)
    ]


def losses_of(*names: str) -> MergeMeasurements:
    """Losses of parents and output, and a barrier between the first two."""
    estimate = Estimate(value=-0.01, low=-0.02, high=-0.005)
    roles = [("parent", name) for name in names] + [("output", "output")]
    return MergeMeasurements.model_construct(
        losses=[
            LossEntry(model=name, role=role, loss=1.23456789, low=1.1, high=1.3,  # type: ignore[arg-type]
                      perplexity=3.437, metric=0.25)
            for role, name in roles
        ],
        differences=[
            DifferenceEntry(model=name, value=-0.1, low=-0.2, high=-0.05, significant=True)
            for name in names
        ],
        barriers=[
            BarrierEntry(
                first=names[0], second=names[1], along="linear", t=[0, 0.5, 1], loss=[1, 1, 1],
                metric=None, barrier=estimate, barrier_mean=estimate, error_barrier=None, t_max=0.5,
                path_max=1, path_mean=1, significant=False, verdict="none",
            )
        ],
    )  # fmt: skip


def measured(report: Report, *names: str, **data: Any) -> Report:
    """The report as if loss had been measured."""
    assert isinstance(report.result, MergeMeasurements)
    found = losses_of(*names)
    result = report.result.model_copy(
        update={key: getattr(found, key) for key in ("losses", "differences", "barriers")}
    )
    entry = DataEntry(
        source="/home/me/held out.jsonl", digest="", documents=40, examples=50, available=50,
        tokens=500, seq_len=9, seed=0, task="causal-lm", metric="next-token accuracy",
        half="report",
    )  # fmt: skip
    return report.model_copy(update={"result": result, "data": entry.model_copy(update=data)})


def test_results_are_in_the_model_index(report: Report) -> None:
    card = ModelCard(model_card(measured(report, "a", "b")))
    results = {result.metric_type: result for result in card.data.eval_results or []}
    assert {kind: result.metric_value for kind, result in results.items()} == {
        "loss": 1.234568, "perplexity": 3.437, "accuracy": 0.25
    }  # fmt: skip
    assert results["loss"].metric_args == {"interval_95": {"low": 1.1, "high": 1.3}}
    assert results["loss"].dataset_type == "unpublished"
    assert results["loss"].dataset_name == "unpublished data (40 documents, report half)"
    assert "held out" not in card.content
    assert "/home/me" not in card.content
    assert {result.task_type for result in results.values()} == {"text-generation"}
    assert card.data.model_name == "out"


def test_the_card_opens_with_the_verdict_and_shows_the_losses(report: Report) -> None:
    text = model_card(measured(report, "a", "b"))
    assert "# out\n\n2 models merged by linear" in text
    better = "The output is better than every parent: 0.1000 [0.0500, 0.2000] below the best, a"
    assert better in text.replace("\\", "")
    assert "8.1 % of its loss" in text
    assert "![Losses, and the output's paired differences](figures/losses.png)" in text
    assert "**1.2346" in text.replace("\\", "")  # the best loss is bold
    assert "figures/" not in model_card(report)


@pytest.mark.parametrize(
    ("stated", "expected", "sentence"),
    [
        ([MIT, MIT], {"license": "mit"}, "Every parent's card states the license mit."),
        ([MIT, APACHE], {}, "The parents' licenses are not the same, or not all known"),
        ([MIT, None], {}, "The parents' licenses are not the same, or not all known"),
        ([None, None], {}, "No parent's card states a license"),
        ([License(id="other", name="Llama X", link="https://x.org/l")] * 2,
         {"license": "other", "license_name": "llama-x", "license_link": "https://x.org/l"},
         "Every parent's card states the license Llama X."),
        ([License(id="other", name="x", link="LICENSE")] * 2,
         {"license": "other", "license_name": "x"}, "states the license x."),
        ([License(id="other", name="x"), License(id="other", name="y")], {}, "not the s"),
        ([License(id="mit, apache-2.0")] * 2, {"license": ["mit", "apache-2.0"]}, "the lice"),
        ([License(id="My Own!")] * 2, {"license": "other", "license_name": "my-own"}, "My"),
    ],
    ids=["same", "other", "unknown", "none", "named", "relative", "names", "list", "free text"],
)  # fmt: skip
def test_a_license_is_stated_where_all_parents_agree(
    stated: list[License | None], expected: dict[str, Any], sentence: str, report: Report
) -> None:
    changed = report.model_copy(update={"models": models(*stated)})
    card = ModelCard(model_card(changed))
    found = {key: value for key, value in card.data.to_dict().items() if "license" in key}
    assert found == expected
    assert sentence in card.text


def test_differing_licenses_are_a_warning() -> None:
    assert differing_licenses(models(MIT, None)) == []
    assert differing_licenses(models(MIT, APACHE, None)) == [
        "the parents' licenses differ, so the model card states none (org/m0: mit; org/m1: "
        "apache-2.0; org/m2: none stated)"
    ]


def test_bends_of_a_path_have_no_license(report: Report) -> None:
    first, second = models(MIT, None)
    changed = report.model_copy(
        update={"models": [first, second.model_copy(update={"role": "bend"})]}
    )
    assert ModelCard(model_card(changed)).data.license == "mit"


def test_parents_of_the_hub_are_named_once(report: Report) -> None:
    changed = report.model_copy(update={"models": models(None, None, name="org/a@v1")})
    card = ModelCard(model_card(changed))
    assert card.data.base_model == ["org/a"]
    assert f"[org/a](https://huggingface.co/org/a/tree/{'f' * 40})" in card.text
    folders = report.model_copy(update={"models": models(None, None, revision=None)})
    assert ModelCard(model_card(folders)).data.base_model is None


@pytest.mark.parametrize(
    ("architecture", "tag", "line"),
    [
        ("LlamaForCausalLM", "text-generation", "model = AutoModelForCausalLM.from_pretrained("),
        ("GPT2LMHeadModel", "text-generation", "tokenizer = AutoTokenizer.from_pretrained("),
        ("BertForMaskedLM", "fill-mask", "model = AutoModelForMaskedLM.from_pretrained("),
        ("ViTForImageClassification", "image-classification", "processor = AutoImageProcessor.f"),
        ("ViTModel", None, "from transformers import ViTModel"),
        (None, None, "state = load_file("),
        ("no; identifier", None, ""),
    ],
)
def test_how_to_load_it_goes_by_the_architecture(
    architecture: str | None, tag: str | None, line: str, report: Report
) -> None:
    changed = report.model_copy(update={"models": models(None, None, architecture=architecture)})
    card = ModelCard(model_card(changed))
    assert card.data.pipeline_tag == tag
    assert line in card.text
    assert card.data.library_name == ("transformers" if architecture else None)


def test_hostile_names_and_licenses_stay_text(report: Report) -> None:
    hostile = models(License(id=HOSTILE, name=HOSTILE), MIT, name=HOSTILE)
    found = measured(report, HOSTILE, HOSTILE, source=HOSTILE, metric=HOSTILE)
    provenance = found.provenance
    assert provenance is not None
    changed = found.model_copy(
        update={
            "models": hostile,
            "output": HOSTILE,
            "warnings": [HOSTILE],
            "provenance": provenance.model_copy(update={"command": f"geo-merge soup '{HOSTILE}'"}),
        }
    )
    card = ModelCard(model_card(changed))
    assert "license" not in card.data.to_dict()
    assert card.data.base_model is None
    page = MarkdownIt("commonmark").enable("table").render(card.text)
    assert "<script" not in page
    assert re.findall(r'<img src="([^"]*)"', page) == ["figures/losses.png"]
    assert re.findall(r'<a href="([^"]*)"', page) == []
    assert page.count("<table>") == 2  # parents, losses
    prose = re.sub(r"(?ms)^(```+)\w.*?^\1$", "", card.text)
    bare = [text.split()[0] for text in re.findall(r"(?<![\(\\])(?:https?:/|www\.).*", prose)]
    assert bare == [], "the Hub makes links of them"


@pytest.mark.parametrize("source", ["spec/held.jsonl", "squad", "/home/me/x.txt", "a function of"])
def test_a_local_file_is_no_dataset_of_the_hub(report: Report, source: str) -> None:
    """Even if its name looks like one, or is that of one."""
    found = measured(report, "a", "b", source=source, digest="0123456789abcdef", repository=None)
    card = ModelCard(model_card(found))
    results = card.data.eval_results or []
    assert {result.dataset_type for result in results} == {"unpublished"}
    assert {result.dataset_name for result in results} == {
        "unpublished data of SHA-256 0123456789ab (40 documents, report half)"
    }
    assert source not in card.content
    there = measured(report, "a", "b", source="org/texts", repository="org/texts")
    results = ModelCard(model_card(there)).data.eval_results or []
    assert {result.dataset_type for result in results} == {"org/texts"}


def test_a_card_links_only_to_what_is_there(report: Report) -> None:
    parents = models(None, MIT)
    text = model_card(measured(report.model_copy(update={"models": parents}), "a", "b"))
    pages = {f"https://huggingface.co/{model.name}/tree/{'f' * 40}" for model in parents}
    assert set(re.findall(r"\]\((http[^)]*)\)", text)) == pages
    assert "pypi" not in text


def test_the_command_of_a_card_works_in_its_folder(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [save(name).relative_to(tmp_path) for name in "ab"]
    recipe = {"merge_method": "linear", "models": [
        {"model": str(name), "parameters": {"weight": 1}} for name in names]}  # fmt: skip
    geo.soup(names, Path("made/soup"), data=None)
    geo.run(recipe, Path("made/run"), data=None)
    for kind in ("soup", "run"):
        out = tmp_path / "made" / kind
        (line,) = re.findall(r"(?m)^(?:cd .* && )?geo-merge .*$", (out / "README.md").read_text())
        assert str(tmp_path) not in line
        place, _, command = line.rpartition(" && ")
        monkeypatch.chdir(out)
        monkeypatch.chdir(place.removeprefix("cd ") or ".")
        done = CliRunner().invoke(app, shlex.split(command)[1:])
        assert done.exit_code == 0, done.output
        again = tmp_path / "made" / f"{kind}-again"
        whole = [(folder / "model.safetensors").read_bytes() for folder in (out, again)]
        assert whole[0] == whole[1]
        monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", ["soup", "slerp", "ties", "as they are", "run"])
def test_the_recipe_of_a_card_makes_the_same_weights(
    kind: str, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    a, b, base = (save(name).relative_to(tmp_path) for name in ("a", "b", "base"))
    out = tmp_path / "made"
    if kind == "soup":
        geo.soup([a, b, base], out, weights=[3, 1, 0.1], data=None)
    elif kind == "slerp":
        geo.slerp([a, b], out, t=0.3, data=None)
    elif kind == "ties":
        output = geo.OutputConfig(dtype="bfloat16")
        given: dict[str, Any] = {"density": [0.5, 0.25], "lambda_": 0.8}
        geo.merge([a, b], out, method="ties", base=base, data=None, output=output, **given)
    elif kind == "as they are":
        geo.soup([a, b], out, weights=[1, -0.5], normalize=False, data=None)
    else:
        parts = [{"model": str(a), "parameters": {"weight": [0, 1]}}, {"model": str(b)}]
        shared = {"weight": 0.5}
        geo.run({"merge_method": "linear", "models": parts, "parameters": shared}, out, data=None)
    text = (out / "README.md").read_text()
    (recipe,) = re.findall(r"(?s)```yaml\n(.*?)\n```", text)
    (line,) = re.findall(
        r"(?m)^As a recipe; saved here as merge.yml, it is run by (geo-merge run .*):$", text
    )
    monkeypatch.chdir(out)
    Path("merge.yml").write_text(recipe)
    done = CliRunner().invoke(app, [*shlex.split(line)[1:], "--no-eval"])
    assert done.exit_code == 0, done.output
    again = tmp_path / "made-again"
    for file in ("model.safetensors", "config.json"):
        assert (again / file).read_bytes() == (out / file).read_bytes()
    tensors = [json.loads((f / "merge.json").read_text())["tensors"] for f in (out, again)]
    assert tensors[0] == tensors[1]


def test_a_merge_in_memory_has_no_command(save: Save, tmp_path: Path) -> None:
    import torch

    states = [{"w": torch.ones(2)}, {"w": torch.zeros(2)}]
    geo.soup(states, tmp_path / "out", data=None)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Made in Python, from models in memory: no command makes it again." in text
    assert "```yaml" not in text
