"""Vision-language models on text alone, and on conversations with pictures of real digits."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

import mergekit_geo as geo
from mergekit_geo.config.data import EvalData
from mergekit_geo.config.measures import Compute
from mergekit_geo.data.rows import Rows
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.errors import DataError, UnsupportedError
from mergekit_geo.evaluation.sample import prepare
from mergekit_geo.modules.load import load_model
from mergekit_geo.tasks.shown import shown
from mergekit_geo.tasks.table import make_task, task_for, task_name
from mergekit_geo.tasks.task import Task
from tests.conftest import made_once
from tests.part_models import VISION
from tests.tasks.tiny import make_tokenizer, measured, rows_of

TEXT = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 256, "pad_token_id": 0,
}  # fmt: skip
ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10_000.0}
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for c in m.content %}{% if c.type == 'image' %}PLACE{% else %}{{ c.text }}"
    "{% endif %}{% endfor %}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tokenizer_with(*tokens: str, **named: str) -> PreTrainedTokenizerFast:
    made = make_tokenizer()
    made.add_special_tokens({"additional_special_tokens": [*tokens]})
    return PreTrainedTokenizerFast(
        tokenizer_object=made.backend_tokenizer, pad_token="[PAD]", unk_token="[UNK]",
        model_input_names=["input_ids", "attention_mask"], extra_special_tokens=named,
    )  # fmt: skip


def llava() -> tuple[Any, Any]:
    words = tokenizer_with("<image>")
    images = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}
    )
    processor = transformers.LlavaProcessor(
        images, words, patch_size=4, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=TEMPLATE.replace("PLACE", "<image>"),
    )  # fmt: skip
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION, projection_dim=8),
        text_config=transformers.LlamaConfig(vocab_size=len(words), **TEXT),
        image_token_index=words.convert_tokens_to_ids("<image>"), vision_feature_layer=-1,
    )  # fmt: skip
    return transformers.LlavaForConditionalGeneration(config), processor


def gemma3() -> tuple[Any, Any]:
    names = ("<image_soft_token>", "<start_of_image>", "<end_of_image>")
    roles = ("image_token", "boi_token", "eoi_token")
    words = tokenizer_with(*names, **dict(zip(roles, names, strict=True)))
    images = transformers.Gemma3ImageProcessorPil(size={"height": 8, "width": 8})
    processor = transformers.Gemma3Processor(
        images, words, TEMPLATE.replace("PLACE", "<start_of_image>"), image_seq_length=4
    )
    image, begin, end = words.convert_tokens_to_ids([*names])
    config = transformers.Gemma3Config(
        vision_config=transformers.SiglipVisionConfig(**VISION),
        text_config=transformers.Gemma3TextConfig(vocab_size=len(words), **TEXT),
        mm_tokens_per_image=4, image_token_index=image, boi_token_index=begin, eoi_token_index=end,
    )  # fmt: skip
    return transformers.Gemma3ForConditionalGeneration(config), processor


def qwen(kind: str) -> tuple[Any, None]:
    """Without a processor: its class is made without torchvision by `load_processor` alone."""
    words = qwen_tokenizer()
    ids = words.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>", "<|vision_start|>"])
    vision = {
        "depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 2, "patch_size": 4,
        "embed_dim": 8, "mlp_ratio": 1, "out_hidden_size": 16,
    }  # fmt: skip
    vision |= {"hidden_size": 16} if kind == "Qwen2VL" else {}
    config = getattr(transformers, f"{kind}Config")(
        text_config={**TEXT, "vocab_size": len(words), "rope_parameters": ROPE},
        vision_config=vision, image_token_id=ids[0], video_token_id=ids[1],
        vision_start_token_id=ids[2],
    )  # fmt: skip
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config), None


def qwen_tokenizer() -> PreTrainedTokenizerFast:
    found = tokenizer_with("<|image_pad|>", "<|video_pad|>", "<|vision_start|>")
    found.chat_template = TEMPLATE.replace("PLACE", "<|vision_start|><|image_pad|>")
    return found


def save_qwen(folder: Path) -> None:
    images = transformers.Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, min_pixels=64, max_pixels=256
    )
    images.save_pretrained(folder)
    stated = json.loads((folder / "preprocessor_config.json").read_text())
    stated["processor_class"] = "Qwen2VLProcessor"
    (folder / "preprocessor_config.json").write_text(json.dumps(stated))
    qwen_tokenizer().save_pretrained(folder)


MADE: dict[str, Callable[[], tuple[Any, Any]]] = {
    "llava": llava, "gemma3": gemma3, "qwen2_vl": lambda: qwen("Qwen2VL"),
    "qwen2_5_vl": lambda: qwen("Qwen2_5_VL"),
}  # fmt: skip


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each kind, with two models: KIND/a and KIND/b."""
    return made_once(tmp_path_factory, "vision-language", make_models)


def make_models(root: Path) -> None:
    for kind, make in MADE.items():
        torch.manual_seed(0)
        model, processor = make()
        for name in "ab":
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
            model.save_pretrained(root / kind / name)
            if processor is None:
                save_qwen(root / kind / name)
            else:
                processor.save_pretrained(root / kind / name)


def parts_of(
    folder: Path, data: EvalData | None = None, asked: str | None = None
) -> tuple[Any, Task]:
    config = json.loads((folder / "config.json").read_text())
    name = task_name(config, asked)
    model = load_model(folder, Compute())
    return model, make_task(name, folder, config, data or EvalData(), Compute())


def picture(index: int) -> Image.Image:
    pixels = load_digits().images[index] * 255 / 16
    return Image.fromarray(pixels.astype(np.uint8)).resize((8, 8))


def png(index: int) -> bytes:
    stream = BytesIO()
    picture(index).save(stream, format="PNG")
    return stream.getvalue()


def asked(index: int, part: Mapping[str, Any], answer: str = "") -> list[dict[str, Any]]:
    said = answer or f"the digit is {load_digits().target[index]}"
    question = [part, {"type": "text", "text": "which digit is this"}]
    return [{"role": "user", "content": question}, {"role": "assistant", "content": said}]


def digits(count: int = 4) -> Rows:
    messages = [asked(i, {"type": "image", "image": picture(i)}) for i in range(count)]
    return rows_of(messages=messages)


@pytest.mark.parametrize("kind", MADE)
def test_text_alone_is_the_loss_of_a_loop_in_transformers(models: Path, kind: str) -> None:
    folder = models / kind / "a"
    model, task = parts_of(folder)
    assert task.name == "causal-lm"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [d.text[:80] for d in builtin_documents("held-out")[:3]]
    found = measured(task, task.examples(rows_of(text=texts)), model, 2)
    for text, loss in zip(texts, found.loss, strict=True):
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1]
        expected = functional.cross_entropy(logits, ids[0, 1:])
        assert loss == pytest.approx(float(expected), abs=1e-5)


def processed(model: Any, task: Any, messages: Any, image: Any) -> tuple[Any, Any]:
    """The processor's tensors, and the number of tokens before the answer."""
    processor = task.processor
    question = {"role": "user", "content": [{"type": "image"}, messages[0]["content"][1]]}
    shown = [question, messages[1]]
    rendered = [
        processor.tokenizer.apply_chat_template(part, tokenize=False, add_generation_prompt=ask)
        for part, ask in ((shown, False), (shown[:-1], True))
    ]
    whole, before = (
        processor(text=[text], images=[image], return_tensors="pt", add_special_tokens=False)
        for text in rendered
    )
    return whole, before["input_ids"].shape[1]


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("loss_on", ["assistant", "all"])
def test_the_loss_of_answers_to_pictures_is_transformers_own(
    models: Path, kind: str, loss_on: str
) -> None:
    folder = models / kind / "a"
    model, task = parts_of(folder, EvalData(loss_on=loss_on), "image-text-to-text")
    rows = digits()
    found = measured(task, task.examples(rows), model, 3)
    for row, cells in enumerate(rows.cells):
        whole, start = processed(model, task, cells["messages"], picture(row).convert("RGB"))
        labels = whole["input_ids"].clone()
        labels[:, : start if loss_on == "assistant" else 0] = -100
        for place in task.places:  # type: ignore[attr-defined]
            labels[labels == place] = -100
        known = {k: t for k, t in whole.items() if k in ("input_ids", "attention_mask",
                 "pixel_values", "image_grid_thw", "mm_token_type_ids")}  # fmt: skip
        if kind == "gemma3":
            known["token_type_ids"] = whole["token_type_ids"]
        with torch.no_grad():
            expected = model(**known, labels=labels).loss
        assert found.loss[row] == pytest.approx(float(expected), abs=1e-5)
    assert len({round(loss, 6) for loss in found.loss}) == len(rows.cells)


def test_pictures_are_taken_from_wherever_they_are(models: Path, tmp_path: Path) -> None:
    model, task = parts_of(models / "llava" / "a", EvalData(), "image-text-to-text")
    file = tmp_path / "0.png"
    file.write_bytes(png(0))
    encoded = b64encode(png(0)).decode()
    parts = [
        {"type": "image", "image": picture(0)},
        {"type": "image", "image": {"bytes": png(0), "path": None}},
        {"type": "image", "path": str(file)},
        {"type": "image", "url": f"file://{file}"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}},
    ]  # fmt: skip
    inside = rows_of(messages=[asked(0, part) for part in parts])
    turns = [{"from": "human", "value": "<image>\nwhich digit is this"},
             {"from": "gpt", "value": "the digit is 0"}]  # fmt: skip
    unmarked = [{"role": "user", "content": "which digit is this"},
                {"role": "assistant", "content": "the digit is 0"}]  # fmt: skip
    beside = rows_of(
        messages=[asked(0, {"type": "image"}), turns, unmarked],
        image=[[picture(0)], png(0), str(file)],
    )
    plain = rows_of(
        prompt=["which digit is this"], completion=["the digit is 0"], image=[picture(0)]
    )
    losses = [
        measured(task, task.examples(rows), model, 1).loss for rows in (inside, beside, plain)
    ]
    np.testing.assert_allclose(np.concatenate(losses), losses[0][0], atol=1e-6)


def test_tokens_around_a_picture_do_not_count_either(models: Path) -> None:
    _, task = parts_of(models / "gemma3" / "a", EvalData(loss_on="all"), "image-text-to-text")
    (example, *_) = task.examples(digits(1))
    words = task.tokenizer.convert_ids_to_tokens(  # type: ignore[attr-defined]
        [label for label in example.fields["labels"] if label != -100]
    )
    assert not [word for word in words if "image" in word]
    assert len(words) + 6 == example.size  # four of the image, and those that begin and end it


def test_a_template_that_writes_no_place_for_a_picture(models: Path) -> None:
    _, task = parts_of(models / "llava" / "a", EvalData(), "image-text-to-text")
    task.tokenizer.chat_template = "{% for m in messages %}{{ m.role }}{% endfor %}"  # type: ignore[attr-defined]
    message = "x.jsonl:1: the chat template writes no <image> for each of 1"
    with pytest.raises(DataError, match=message):
        task.examples(digits())


def test_rows_with_pictures_choose_the_task(models: Path) -> None:
    config = json.loads((models / "llava" / "a" / "config.json").read_text())
    assert task_name(config) == "causal-lm"
    assert task_for(digits(), config, EvalData()) == "image-text-to-text"
    assert task_for(rows_of(text=["a"]), config, EvalData()) == "causal-lm"
    assert task_for(digits(), config, EvalData(task="causal-lm")) == "causal-lm"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"messages": [asked(0, {"type": "image"})]}, r"places for 1 images and holds 0"),
        ({"messages": [asked(0, {"type": "image"})], "image": [[png(0), png(1)]]}, "holds 2"),
        (
            {"messages": [asked(0, {"type": "image", "path": "gone.png"})]},
            "x.jsonl:1: no such pict",
        ),
        ({"messages": [asked(0, {"type": "image", "url": "https://x/y.png"})]}, "not fetched from"),
        ({"messages": [asked(0, {"type": "image", "image": b"no"})]}, "x.jsonl:1: not a picture"),
        ({"messages": [asked(0, {"type": "image", "image": [[0.5]]})]}, "whole numbers from 0 to"),
        ({"messages": [asked(0, {"type": "video", "path": "a.mp4"})]}, "video beside text"),
        ({"messages": [[{"role": "user", "content": "a"}]]}, "no conversation has a turn of 'ass"),
    ],
)
def test_pictures_that_are_missing(models: Path, columns: Any, message: str) -> None:
    _, task = parts_of(models / "llava" / "a", EvalData(), "image-text-to-text")
    with pytest.raises(DataError, match=message):
        task.examples(rows_of(**columns))


def test_conversations_that_do_not_fit_are_left_out(models: Path) -> None:
    folder = models / "llava" / "a"
    rows = rows_of(messages=[asked(0, {"type": "image", "image": png(0)}, said)
                             for said in ("one " * 60, "zero")])  # fmt: skip
    _, task = parts_of(folder, EvalData(seq_len=60), "image-text-to-text")
    (fitting,) = task.examples(rows)
    assert fitting.document == 1
    assert "zero" in shown(task, fitting).rpartition("⟦")[2].replace(" ", "")
    assert "1 conversations are longer than 60 tokens" in rows.notes
    _, task = parts_of(folder, EvalData(seq_len=9), "image-text-to-text")
    with pytest.raises(DataError, match=r"counts and fits: the longest has \d+ tokens .*--seq-len"):
        task.examples(rows)


def test_a_processor_that_is_missing_or_brings_code(models: Path, tmp_path: Path) -> None:
    config = json.loads((models / "llava" / "a" / "config.json").read_text())
    make_tokenizer().save_pretrained(tmp_path)
    name, settings = "image-text-to-text", (config, EvalData(), Compute())
    with pytest.raises(DataError, match=r"no processor of images and text: expected processor_con"):
        make_task(name, tmp_path, *settings)
    code = {"processor_class": "Mine", "auto_map": {"AutoProcessor": "mine.Mine"}}
    (tmp_path / "processor_config.json").write_text(json.dumps(code))
    with pytest.raises(UnsupportedError, match="the processor comes with code of its own"):
        make_task(name, tmp_path, *settings)


def test_language_modelling_is_not_given_pictures(models: Path) -> None:
    _, task = parts_of(models / "llava" / "a")
    with pytest.raises(DataError, match="image beside text; only text can be measured"):
        task.examples(digits())


def mean_of(folder: Path) -> Any:
    """The model between a and b, by hand."""
    one, two = (load_model(folder / name, Compute()) for name in "ab")
    with torch.no_grad():
        for mine, theirs in zip(one.parameters(), two.parameters(), strict=True):
            mine.add_(theirs).div_(2)
    return one


def save_texts(path: Path) -> geo.EvalData:
    path.write_text(
        "\n\n".join(d.text[:60].replace("\n", " ") for d in builtin_documents("train")[:12])
    )
    return geo.EvalData(str(path))


@pytest.mark.parametrize("kind", MADE)
def test_a_merge_is_measured_on_text_alone(models: Path, tmp_path: Path, kind: str) -> None:
    data = save_texts(tmp_path / "held-out.txt")
    folder = models / kind
    report = geo.soup([folder / "a", folder / "b"], data=data, sharpness="off").report
    config = json.loads((folder / "a" / "config.json").read_text())
    found = prepare(data, folder / "a", config, Compute())
    assert report.result.losses[-1].loss == pytest.approx(
        found.objective.measure(mean_of(folder)).mean, abs=1e-5
    )
    assert report.data is not None
    noted = any("text alone" in note for note in report.data.notes)
    assert noted or kind == "gemma3"  # which transformers counts among language models


@pytest.mark.slow
def test_a_merge_is_measured_on_pictures(models: Path, tmp_path: Path) -> None:
    lines = []
    for index in range(20):
        (tmp_path / f"{index}.png").write_bytes(png(index))
        messages = asked(index, {"type": "image", "path": f"{index}.png"})
        lines.append(json.dumps({"messages": messages}))
    (tmp_path / "digits.jsonl").write_text("\n".join(lines))
    folder = models / "llava"
    data = geo.EvalData(str(tmp_path / "digits.jsonl"))
    report = geo.soup([folder / "a", folder / "b"], data=data, sharpness="off").report
    assert report.data is not None
    assert (report.data.task, report.data.documents) == ("image-text-to-text", 20)
    assert len(report.result.barriers) == 1
    config = json.loads((folder / "a" / "config.json").read_text())
    found = prepare(data, folder / "a", config, Compute())
    assert report.result.losses[-1].loss == pytest.approx(
        found.objective.measure(mean_of(folder)).mean, abs=1e-5
    )


def test_an_output_has_the_processor(models: Path, tmp_path: Path) -> None:
    folder, out = models / "llava", tmp_path / "out"
    geo.soup([folder / "a", folder / "b"], out, data=None, output=geo.OutputConfig(fsync=False))
    files = ("processor_config.json", "chat_template.jinja")
    assert all((out / file).read_bytes() == (folder / "a" / file).read_bytes() for file in files)
