"""AdaMerging: coefficients that make predictions certain, on data whose labels nobody looks at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification

import mergekit_geo as geo
from mergekit_geo.errors import ArgumentError, DataError, GeoError, UnsupportedError
from mergekit_geo.views.merge import view
from tests.conftest import made_once

HOW = {"sharpness": "off", "compute": geo.Compute(device="cpu", budget=0)}
CLASSES, STEPS = 4, 12


def pictures(count: int, seed: int) -> list[dict[str, Any]]:
    """Noise around one of four patterns, and which it is."""
    draw = np.random.default_rng(seed)
    patterns = np.random.default_rng(7).normal(size=(CLASSES, 1, 4, 4))
    labels = draw.integers(CLASSES, size=count)
    images = patterns[labels] + 0.3 * draw.normal(size=(count, 1, 4, 4))
    return [
        {"pixel_values": np.round(image, 4).tolist(), "label": int(label)}
        for image, label in zip(images, labels, strict=True)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def vit() -> ViTForImageClassification:
    config = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        image_size=4, patch_size=2, num_channels=1, num_labels=CLASSES,
    )  # fmt: skip
    return ViTForImageClassification(config)


def make(folder: Path) -> None:
    """A base, and two fine-tunes that know two of the four classes each; data, and some of it."""
    rows = pictures(160, 0)
    torch.manual_seed(0)
    base = vit().eval()
    base.save_pretrained(folder / "base")
    for name, known in (("a", {0, 1}), ("b", {2, 3})):
        model = ViTForImageClassification.from_pretrained(folder / "base")
        own = [row for row in rows if row["label"] in known]
        x = torch.tensor([row["pixel_values"] for row in own])
        y = torch.tensor([row["label"] for row in own])
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(20):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x).logits, y).backward()
            optimizer.step()
        model.save_pretrained(folder / name)
    write(folder / "held.jsonl", pictures(80, 1))
    plain = [{"pixel_values": row["pixel_values"]} for row in pictures(60, 2)]
    write(folder / "plain.jsonl", plain)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "entropy-zoo", make)


def merge(zoo: Path, **settings: Any) -> geo.Result:
    how = {**HOW, "steps": STEPS, "learning_rate": 0.05, **settings}
    models = how.pop("models", [zoo / "a", zoo / "b"])
    return geo.merge(models, method="adamerging", base=zoo / "base", **how)


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    return ViTForImageClassification.from_pretrained(folder).state_dict()


def naive(
    zoo: Path, batches: list[torch.Tensor], task_wise: bool
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The paper's descent, by autograd through whole float64 task vectors; what it ends at."""
    base, *tuned = (state_of(zoo / name) for name in ("base", "a", "b"))
    count = 1 if task_wise else len(base)
    raw = torch.full((count, 2), 0.3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([raw], lr=0.05)

    def merged() -> dict[str, torch.Tensor]:
        kept = raw.clamp(0, 1)
        rows = {name: kept[0 if task_wise else i] for i, name in enumerate(sorted(base))}
        return {
            name: tensor.double()
            + sum(
                c * (model[name].double() - tensor.double())
                for c, model in zip(rows[name], tuned, strict=True)
            )
            for name, tensor in base.items()
        }

    module = vit().double().eval()
    for x in batches:
        logits = torch.func.functional_call(module, merged(), (x.double(),)).logits
        loss = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    kept = raw.detach().clamp(0, 1)
    rows = {name: kept[0 if task_wise else i] for i, name in enumerate(sorted(base))}
    return {name: tensor.detach() for name, tensor in merged().items()}, rows


@pytest.mark.parametrize("task_wise", [False, True])
def test_coefficients_are_those_of_the_whole_tensor_reference(
    zoo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task_wise: bool
) -> None:
    batches: list[torch.Tensor] = []
    forward = ViTForImageClassification.forward

    def seen(self: Any, pixel_values: torch.Tensor, **more: Any) -> Any:
        if torch.is_grad_enabled():
            batches.append(pixel_values.clone())
        return forward(self, pixel_values, **more)

    monkeypatch.setattr(ViTForImageClassification, "forward", seen)
    train = str(zoo / "plain.jsonl")
    out = tmp_path / "out"
    result = merge(zoo, train_data=train, data=None, task_wise=task_wise, out=out)
    monkeypatch.undo()
    assert len(batches) == STEPS
    assert {len(batch) for batch in batches} == {32}
    expected, rows = naive(zoo, batches, task_wise)
    for name, tensor in state_of(out).items():
        torch.testing.assert_close(tensor, expected[name].float(), rtol=1e-4, atol=1e-5)
    found = result.report.result.entropy
    for i, model in enumerate(found.models):
        values = torch.stack([row[i] for row in rows.values()])
        assert model.mean == pytest.approx(float(values.mean()), abs=1e-4)
        assert model.largest == pytest.approx(float(values.max()), abs=1e-4)


def test_predictions_get_more_certain_and_labels_are_not_looked_at(
    zoo: Path, tmp_path: Path
) -> None:
    rows = pictures(60, 2)
    wrong = [{**row, "label": (row["label"] + 1) % CLASSES} for row in rows]
    plain = merge(zoo, train_data=str(zoo / "plain.jsonl"), data=None)
    with_wrong = merge(zoo, train_data=write(tmp_path / "wrong.jsonl", wrong), data=None)
    assert plain.state is not None
    assert with_wrong.state is not None
    assert all(torch.equal(x, with_wrong.state[name]) for name, x in plain.state.items())
    (source,) = plain.report.result.entropy.sources
    assert source.after < source.before < np.log(CLASSES)
    assert (source.examples, source.half, source.left_out) == (60, "", 0)


def test_without_training_data_the_selection_half_finds_and_the_other_reports(zoo: Path) -> None:
    report = merge(zoo, data=str(zoo / "held.jsonl")).report
    found = report.result.entropy
    (source,) = found.sources
    assert report.data is not None
    assert (source.half, report.data.half) == ("selection", "report")
    assert source.examples + report.data.examples == 80
    assert report.result.coefficients.method == "adamerging"
    assert (found.classes, found.start, found.granularity) == (CLASSES, 0.3, "tensor")
    (section,) = (
        one for one in view(report, report.result).blocks if one.title == "Coefficients by entropy"
    )
    told, sources, table, chart, folded = section.blocks
    assert "no label was looked at" in told.text
    assert "the selection half" in sources.texts[0]
    assert [row[0] for row in table.rows] == ["a", "b"]
    assert len(chart.picture.rows) == len(folded.blocks[0].rows) == len(found.models[0].layers)
    assert {name for model in found.models for name in model.layers} > {"vit.layernorm"}


def test_what_losses_are_reported_on_finds_no_coefficients(zoo: Path, tmp_path: Path) -> None:
    held = pictures(80, 1)
    hidden = [{"pixel_values": row["pixel_values"], "label": 0} for row in held[:30]]
    some = write(tmp_path / "some.jsonl", hidden + pictures(40, 5))
    report = merge(zoo, train_data=some, data=str(zoo / "held.jsonl")).report
    (source,) = report.result.entropy.sources
    assert (source.examples, source.left_out) == (40, 30)
    every = write(tmp_path / "every.jsonl", hidden)
    with pytest.raises(DataError, match="losses are reported on all of this data"):
        merge(zoo, train_data=every, data=str(zoo / "held.jsonl"))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"data": None}, "adamerging needs unlabelled data"),
        ({"data": None, "train_data": "plain", "steps": 0}, "steps must lie in"),
        ({"data": None, "train_data": "plain", "start": 1.5}, "start must lie in"),
    ],
)
def test_invalid_searches(zoo: Path, settings: dict[str, Any], match: str) -> None:
    if "train_data" in settings:
        settings["train_data"] = str(zoo / "plain.jsonl")
    with pytest.raises(ArgumentError, match=match):
        merge(zoo, **settings)


def test_a_recipe_has_data_of_its_models(zoo: Path) -> None:
    recipe = {
        "merge_method": "adamerging", "base_model": str(zoo / "base"),
        "models": [
            {"model": str(zoo / "a"), "train_data": str(zoo / "plain.jsonl")},
            {"model": str(zoo / "b")},
        ],
        "parameters": {"steps": STEPS, "learning_rate": 0.05},
    }  # fmt: skip
    followed = geo.run(recipe, data=None, **HOW).state
    called = merge(zoo, data=None, train_data={"a": str(zoo / "plain.jsonl")}).state
    assert followed is not None
    assert called is not None
    assert all(torch.equal(x, called[name]) for name, x in followed.items())
    first = [{"filter": "embeddings", "value": 0.2}, {"value": 0.3}]
    by_tensor = {**recipe, "parameters": {"start": first, "steps": 2}}
    with pytest.raises(GeoError, match="one start for the whole merge"):
        geo.run(by_tensor, data=None, **HOW)


def test_a_base_is_needed(zoo: Path) -> None:
    with pytest.raises(ArgumentError, match="adamerging needs a base"):
        geo.merge([zoo / "a"], method="adamerging", data=str(zoo / "held.jsonl"), **HOW)


def test_tasks_whose_predictions_have_no_entropy_are_refused(small: Path, zoo: Path) -> None:
    how = {**HOW, "method": "adamerging", "base": small / "base", "steps": 2}
    with pytest.raises(UnsupportedError, match="predictions of causal-lm have no entropy"):
        geo.merge([small / "a"], data="builtin:python-docs", **how)
    with pytest.raises(UnsupportedError, match="predictions of causal-lm have no entropy"):
        geo.merge([small / "a"], data=None, train_data="builtin:python-docs", **how)
    function = geo.FunctionObjective(lambda model, batch: batch, [torch.ones(3)])
    with pytest.raises(UnsupportedError, match="a function gives losses, and no predictions"):
        merge(zoo, data=None, train_data=function)
