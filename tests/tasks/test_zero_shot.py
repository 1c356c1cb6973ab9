"""CLIP and SigLIP on real digits, against transformers' own losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn import functional

import mergekit_geo as geo
from mergekit_geo.config.data import EvalData
from mergekit_geo.config.measures import Compute
from mergekit_geo.data.labels import ClassId
from mergekit_geo.data.rows import Rows
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.modules.load import load_model
from mergekit_geo.tasks.shown import shown
from mergekit_geo.tasks.table import make_task, task_name
from mergekit_geo.tasks.task import Task
from mergekit_geo.tasks.texts import ExampleTexts
from tests.conftest import made_once
from tests.tasks.tiny import make_tokenizer, measured, rows_of

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIZES = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {**SIZES, "vocab_size": 320, "max_position_embeddings": 32, "eos_token_id": 3}
VISION = {**SIZES, "image_size": 8, "patch_size": 4}
KINDS = ("CLIP", "Siglip")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each kind, with two models: KIND/a and KIND/b."""
    return made_once(tmp_path_factory, "dual", make_models)


def make_models(root: Path) -> None:
    words = make_tokenizer()
    for kind in KINDS:
        torch.manual_seed(0)
        sizes = {"projection_dim": 8} if kind == "CLIP" else {}
        text = {**TEXT, "projection_size": 8} if kind == "Siglip" else TEXT
        config = getattr(transformers, f"{kind}Config")(
            text_config=text, vision_config=VISION, **sizes
        )
        model = getattr(transformers, f"{kind}Model")(config)
        for name in "ab":
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
            model.save_pretrained(root / kind / name)
            processor(kind, words).save_pretrained(root / kind / name)


def processor(kind: str, words: Any) -> Any:
    if kind == "CLIP":
        images = transformers.CLIPImageProcessorPil(
            size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}
        )
        return transformers.CLIPProcessor(images, words)
    size = {"height": 8, "width": 8}
    return transformers.SiglipProcessor(transformers.SiglipImageProcessorPil(size=size), words)


def parts_of(folder: Path, data: EvalData | None = None) -> tuple[Any, Task]:
    config = json.loads((folder / "config.json").read_text())
    task = make_task(task_name(config), folder, config, data or EvalData(), Compute())
    return load_model(folder, Compute()), task


def picture(index: int) -> Image.Image:
    pixels = load_digits().images[index] * 255 / 16
    return Image.fromarray(pixels.astype(np.uint8)).convert("RGB")


def captions(count: int) -> Rows:
    texts = [f"number {i}, a {NAMES[load_digits().target[i]]}" for i in range(count)]
    return rows_of(image=[picture(i) for i in range(count)], caption=texts)


def given(folder: Path, pictures: Any, texts: Any) -> Any:
    """A processor's tensors by hand; SigLIP's texts are as long as they can be."""
    made = transformers.AutoProcessor.from_pretrained(folder)
    long = {"padding": "max_length", "max_length": 32} if "Siglip" in str(folder) else {}
    found = made(images=list(pictures), text=list(texts), return_tensors="pt",
                 truncation=True, **({"padding": True} | long))  # fmt: skip
    accepted = ("input_ids", "attention_mask", "pixel_values")
    return {name: tensor for name, tensor in found.items() if name in accepted}


@pytest.mark.parametrize("kind", KINDS)
def test_captions_have_transformers_own_loss_of_their_group(models: Path, kind: str) -> None:
    folder = models / kind / "a"
    model, task = parts_of(folder)
    rows = captions(9)
    examples = task.examples(rows)
    first, *others = (measured(task, examples, model, size) for size in (1, 4, 9))
    for other in others:
        np.testing.assert_allclose(first.loss, other.loss, atol=1e-5, rtol=0)
    assert task.metric == "retrieval accuracy"
    groups = {example.document for example in examples}
    assert len(groups) == 2
    for group in groups:
        own = [i for i, example in enumerate(examples) if example.document == group]
        places = [examples[i].fields["images"][0] for i in own]
        cells = [rows.cells[place] for place in places]
        inputs = given(folder, [c["image"] for c in cells], [c["caption"] for c in cells])
        with torch.no_grad():
            expected = model(**inputs, return_loss=True).loss
        assert float(np.mean(first.loss[own])) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_class_names_have_zero_shot_accuracy(models: Path, kind: str) -> None:
    folder = models / kind / "a"
    model, task = parts_of(folder)
    labels = [NAMES[load_digits().target[i]] for i in range(12)]
    rows = rows_of(image=[picture(i) for i in range(12)], label=labels)
    found = measured(task, task.examples(rows), model, 5)
    classes = sorted({*labels})
    inputs = given(folder, [picture(i) for i in range(12)], [f"a photo of a {c}" for c in classes])
    with torch.no_grad():
        logits = model(**inputs).logits_per_image
    target = torch.tensor([classes.index(label) for label in labels])
    if kind == "CLIP":
        expected = functional.cross_entropy(logits, target, reduction="none")
    else:
        signs = 2 * functional.one_hot(target, len(classes)) - 1
        expected = -functional.logsigmoid(signs * logits).sum(dim=1)
    np.testing.assert_allclose(found.loss, expected, atol=1e-5, rtol=0)
    assert task.metric == "zero-shot accuracy"
    assert found.accuracy == pytest.approx(float((logits.argmax(1) == target).float().mean()))
    assert found.answers is not None


def test_equal_captions_and_equal_images_are_no_negatives(models: Path) -> None:
    _, task = parts_of(models / "CLIP" / "a")
    rows = rows_of(image=[picture(i) for i in (0, 0, 1, 2)], caption=["a", "b", "b", "c"])
    found = {e.fields["images"][0]: e.fields for e in task.examples(rows)}
    assert set(found[0]["images"]) == {0, 2, 3}
    assert found[1]["texts"] == ["b", "c"]


def test_examples_are_told_by_their_own_rows(models: Path) -> None:
    _, task = parts_of(models / "CLIP" / "a")
    rows = captions(8)
    examples = task.examples(rows)
    assert sorted(example.row for example in examples) == list(range(8))
    texts = ExampleTexts(task, rows)
    for example in examples:
        caption = rows.cells[example.row]["caption"]
        assert texts.of(example) == caption
        assert shown(task, example) == f"the image of {rows.names[example.row]}\n⟦{caption}⟧"
    rows = rows_of(image=[picture(0), picture(1)], label=["zero", "one"])
    example = task.examples(rows)[1]
    assert ExampleTexts(task, rows).label_of(example) == "one"


def test_class_numbers_are_named_by_the_data(models: Path) -> None:
    _, task = parts_of(models / "CLIP" / "a", EvalData(label_column="digit"))
    cells = [ClassId.of(int(load_digits().target[i]), NAMES) for i in range(3)]
    rows = rows_of(image=[picture(i) for i in range(3)], text=["x", "y", "z"], digit=cells)
    prompts = task.examples(rows)[0].fields["texts"]
    assert prompts == ["a photo of a one", "a photo of a two", "a photo of a zero"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [picture(0)], "label": [3]}, "x.jsonl:1 has the class 3 .* which is no name"),
        ({"image": [picture(0)], "label": ["one"]}, "there is one class alone, 'one'"),
        ({"image": [picture(0)], "caption": ["a"]}, "one caption alone"),
        ({"image": ["gone.png"], "caption": ["a"]}, "x.jsonl:1: no such picture: gone.png"),
        ({"image": [picture(0)], "words": ["a"]}, "no column that looks like caption"),
        ({"caption": ["a"]}, "no column that looks like image"),
    ],
)
def test_pairs_that_are_none(models: Path, columns: Any, message: str) -> None:
    _, task = parts_of(models / "CLIP" / "a")
    with pytest.raises(DataError, match=message):
        task.examples(rows_of(**columns))


def test_a_processor_that_is_missing(models: Path, tmp_path: Path) -> None:
    config = json.loads((models / "CLIP" / "a" / "config.json").read_text())
    with pytest.raises(
        ArgumentError, match="CLIPModel cannot do causal-lm; it can do zero-shot-im"
    ):
        task_name(config, "causal-lm")
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(DataError, match="no processor of images and text"):
        make_task(task_name(config), tmp_path, config, EvalData(), Compute())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_merge_is_measured_on_images_in_files(models: Path, tmp_path: Path, kind: str) -> None:
    lines = []
    for index in range(30):
        picture(index).save(tmp_path / f"{index}.png")
        label = NAMES[load_digits().target[index]]
        lines.append(json.dumps({"image": f"{index}.png", "label": label}))
    (tmp_path / "digits.jsonl").write_text("\n".join(lines))
    folder, data = models / kind, geo.EvalData(str(tmp_path / "digits.jsonl"))
    report = geo.soup([folder / "a", folder / "b"], data=data, sharpness="off").report
    assert report.data is not None
    assert (report.data.task, report.data.metric) == (
        "zero-shot-image-classification", "zero-shot accuracy",
    )  # fmt: skip
    one, two = (load_model(folder / name, Compute()) for name in "ab")
    with torch.no_grad():
        for mine, theirs in zip(one.parameters(), two.parameters(), strict=True):
            mine.add_(theirs).div_(2)
    _, task = parts_of(folder / "a")
    rows = rows_of(image=[picture(i) for i in range(30)],
                   label=[NAMES[load_digits().target[i]] for i in range(30)])  # fmt: skip
    expected = measured(task, task.examples(rows), one, 30).mean
    assert report.result.losses[-1].loss == pytest.approx(expected, abs=1e-5)
