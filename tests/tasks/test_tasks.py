"""Every task against transformers' own loss of each example alone, whatever the batch."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from mergekit_geo.config.data import EvalData
from mergekit_geo.config.measures import Compute
from mergekit_geo.data.labels import ClassId
from mergekit_geo.data.rows import Rows
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.tasks.masked_lm import MaskedLM
from mergekit_geo.tasks.table import TASKS, make_task, task_name
from mergekit_geo.tasks.task import Example
from tests.tasks.tiny import (
    TINY,
    VOCABULARY,
    Make,
    Reference,
    check,
    ids,
    measured,
    rows_of,
)

TEXTS = [
    "the cat sat on the mat",
    "a name",
    "an expression is evaluated to yield a value, and the value is bound to a name",
    "objects have a type",
    "numbers",
]
NAMES: dict[str, Any] = {
    "id2label": {0: "no", 1: "yes", 2: "maybe"},
    "label2id": {"no": 0, "yes": 1, "maybe": 2},
}


# --- masked language modelling


def masked_reference(model: PreTrainedModel) -> Reference:
    def alone(example: Example) -> torch.Tensor:
        fields = example.fields
        found: torch.Tensor = model(
            input_ids=ids(fields["input_ids"]), labels=ids(fields["labels"])
        ).loss
        return found

    return alone


def test_masked_lm_is_the_mean_loss_of_the_masked_tokens(make: Make) -> None:
    model, task = make(BertForMaskedLM, BertConfig(**TINY))
    examples = task.examples(rows_of(text=TEXTS))
    losses = check(task, examples, model, masked_reference(model))
    assert (task.name, task.unit) == ("masked-lm", "token")
    counted = [sum(label != -100 for label in e.fields["labels"]) for e in examples]
    assert losses.weight.tolist() == counted
    assert losses.score is not None
    assert ((losses.score >= 0) & (losses.score <= 1)).all()


def test_windows_have_special_tokens_and_cover_the_text(
    make: Make, tokenizer: PreTrainedTokenizerFast
) -> None:
    _, task = make(BertForMaskedLM, BertConfig(**TINY), EvalData(seq_len=8))
    examples = task.examples(rows_of(text=TEXTS))
    for document, text in enumerate(TEXTS):
        found: list[int] = []
        for example in (e for e in examples if e.document == document):
            tokens, labels = example.fields["input_ids"], example.fields["labels"]
            assert len(tokens) <= 8
            assert (tokens[0], tokens[-1]) == (2, 3)
            assert any(label != -100 for label in labels)
            assert all((t == 4) == (label != -100) for t, label in zip(tokens, labels, strict=True))
            pairs = zip(tokens, labels, strict=True)
            found += [token if label == -100 else label for token, label in pairs][1:-1]
        assert found == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_masks_are_15_percent_and_depend_on_the_seed_alone(make: Make) -> None:
    long = rows_of(text=[document.text for document in builtin_documents("held-out")[:2]])
    masks = []
    for seed in (0, 0, 1):
        _, task = make(BertForMaskedLM, BertConfig(**TINY), EvalData(seed=seed))
        masks.append([example.fields["labels"] for example in task.examples(long)])
    assert masks[0] == masks[1] != masks[2]
    flat = [label != -100 for labels in masks[0] for label in labels[1:-1]]
    assert 0.13 < np.mean(flat) < 0.16


def test_masked_lm_of_a_model_that_can_do_both(make: Make) -> None:
    config = BartConfig(
        vocab_size=VOCABULARY, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, max_position_embeddings=128, pad_token_id=0, bos_token_id=2,
        eos_token_id=3, decoder_start_token_id=3,
    )  # fmt: skip
    model, task = make(BartForConditionalGeneration, config, asked="masked-lm")
    fields = ("input_ids", "attention_mask")

    def alone(example: Example) -> torch.Tensor:
        logits = model(**{name: ids(example.fields[name]) for name in fields}).logits
        return torch.nn.functional.cross_entropy(logits[0], ids(example.fields["labels"])[0])

    check(task, task.examples(rows_of(text=TEXTS)), model, alone)


def test_masked_lm_errors(make: Make, tokenizer: PreTrainedTokenizerFast) -> None:
    _, task = make(BertForMaskedLM, BertConfig(**TINY))
    with pytest.raises(DataError, match="no token can be masked"):
        task.examples(rows_of(text=["", "[PAD][UNK]"]))
    with pytest.raises(DataError, match=r"x.jsonl:2 has no text in column 'text', found int"):
        task.examples(rows_of(text=["a", 3]))
    _, task = make(BertForMaskedLM, BertConfig(**TINY), EvalData(seq_len=2))
    with pytest.raises(DataError, match="windows of 2 tokens hold special tokens alone"):
        task.examples(rows_of(text=TEXTS))
    tokenizer_without = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(DataError, match="no mask token"):
        MaskedLM(tokenizer_without, 8, VOCABULARY, EvalData())


# --- sequence to sequence


def t5() -> T5Config:
    return T5Config(
        vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
        pad_token_id=0, eos_token_id=3, decoder_start_token_id=0,
    )  # fmt: skip


def bart() -> BartConfig:
    return BartConfig(
        vocab_size=VOCABULARY, d_model=16, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, max_position_embeddings=128, pad_token_id=0, bos_token_id=2,
        eos_token_id=3, decoder_start_token_id=3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "config"),
    [(T5ForConditionalGeneration, t5()), (BartForConditionalGeneration, bart())],
)
@pytest.mark.parametrize("shifts", [True, False])
def test_seq2seq_is_the_loss_of_the_target(
    make: Make,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    architecture: Any,
    config: Any,
    shifts: bool,
) -> None:
    targets = ["a cat", "names and what they are bound to", "v", "", "one two three"]
    model, task = make(architecture, config)
    rows = rows_of(document=TEXTS, summary=targets)
    examples = task.examples(rows)
    assert rows.notes[0] == "source text is taken from column 'document'"

    def alone(example: Example) -> torch.Tensor:
        source = tokenizer(TEXTS[example.document], return_tensors="pt")
        labels = tokenizer(targets[example.document], return_tensors="pt")["input_ids"]
        found: torch.Tensor = model(input_ids=source["input_ids"], labels=labels).loss
        return found

    if not shifts:
        monkeypatch.setattr(architecture, "prepare_decoder_input_ids_from_labels", None)
    losses = check(task, examples, model, alone)
    assert losses.weight.tolist() == [len(tokenizer(target)["input_ids"]) for target in targets]


def test_long_texts_are_cut_and_counted(make: Make) -> None:
    _, task = make(T5ForConditionalGeneration, t5(), EvalData(seq_len=6))
    rows = rows_of(text=TEXTS, target=["a", "b", "c", "d", "e"])
    assert max(len(e.fields["input_ids"]) for e in task.examples(rows)) == 6
    assert rows.notes[-1] == "4 of 5 texts are cut to 6 tokens"
    with pytest.raises(DataError, match=r"no column that looks like target text.*--label-column"):
        task.examples(rows_of(text=TEXTS))


# --- sequence classification


def classifier(**options: Any) -> BertConfig:
    return BertConfig(**TINY, **options)


def text_reference(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    labels: torch.Tensor,
    *texts: list[str],
) -> Reference:
    def alone(example: Example) -> torch.Tensor:
        row = example.document
        encoded = tokenizer(*(text[row] for text in texts), return_tensors="pt")
        found: torch.Tensor = model(**encoded, labels=labels[row : row + 1]).loss
        return found

    return alone


def test_one_class_is_cross_entropy_with_accuracy_and_answers(
    make: Make, tokenizer: PreTrainedTokenizerFast
) -> None:
    model, task = make(BertForSequenceClassification, classifier(**NAMES))
    labels = [0, 2, 1, 1, 0]
    alone = text_reference(model, tokenizer, torch.tensor(labels), TEXTS)
    losses = check(task, task.examples(rows_of(text=TEXTS, label=labels)), model, alone)
    logits = [model(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS]
    predicted = [int(row.argmax()) for row in logits]
    assert losses.score is not None
    assert losses.score.tolist() == [float(a == b) for a, b in zip(predicted, labels, strict=True)]
    assert losses.answers is not None
    assert losses.answers.target.tolist() == labels
    assert losses.answers.predicted.tolist() == predicted
    assert task.metric == "accuracy"


def test_labels_may_be_names_and_digits(make: Make) -> None:
    model, task = make(BertForSequenceClassification, classifier(**NAMES))
    other = ("maybe", "yes", "no")
    same = [
        [0, 2, 1],
        ["no", "maybe", "yes"],
        ["0", "2.0", "1."],
        [0.0, 2.0, 1.0],
        [ClassId.of(number, other) for number in (2, 0, 1)],
        [ClassId.of(number, ("A", "B", "C")) for number in (0, 2, 1)],
    ]
    found = [
        measured(task, task.examples(rows_of(text=TEXTS[:3], label=labels)), model, 2).loss.tolist()
        for labels in same
    ]
    assert all(losses == found[0] for losses in found)


@pytest.mark.parametrize("kind", ["hot", "ids", "names"])
def test_several_classes_are_the_mean_of_binary_losses(
    make: Make, tokenizer: PreTrainedTokenizerFast, kind: str
) -> None:
    hot = [[0, 0, 1], [1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]]
    held = [[i for i, on in enumerate(row) if on] for row in hot]
    column = {
        "hot": hot,
        "ids": held,
        "names": [[("no", "yes", "maybe")[i] for i in row] for row in held],
    }
    config = classifier(**NAMES, problem_type="multi_label_classification")
    model, task = make(BertForSequenceClassification, config, tweak={"problem_type": None})
    targets = torch.tensor(hot, dtype=torch.float32)
    alone = text_reference(model, tokenizer, targets, TEXTS)
    losses = check(task, task.examples(rows_of(text=TEXTS, label=column[kind])), model, alone)
    logits = torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS])
    rows = rows_of(text=["so", *TEXTS], label=[None, *column[kind]])
    found = task.examples(rows)
    assert [example.document for example in found] == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(measured(task, found, model, 2).loss, losses.loss)
    right = ((logits > 0) == targets.bool()).float().mean(dim=1)
    assert losses.score is not None
    np.testing.assert_allclose(losses.score, right.numpy(), atol=1e-6)
    assert (task.metric, losses.answers) == ("label accuracy", None)


@pytest.mark.parametrize("count", [1, 2])
def test_regression_is_the_squared_error(
    make: Make, tokenizer: PreTrainedTokenizerFast, count: int
) -> None:
    config = classifier(num_labels=count, problem_type="regression")
    tweak = {"problem_type": None} if count == 1 else {}
    model, task = make(BertForSequenceClassification, config, tweak=tweak)
    numbers = torch.linspace(-1, 4, 5 * count).reshape(5, count)
    alone = text_reference(model, tokenizer, numbers.squeeze(1), TEXTS)
    cells: list[Any] = numbers.squeeze(1).tolist()
    losses = check(task, task.examples(rows_of(text=TEXTS, score=cells)), model, alone)
    assert (task.metric, losses.score, losses.answers) == ("", None, None)


@pytest.mark.parametrize(
    ("first", "second"),
    [("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"),
     ("question1", "question2"), ("question", "sentence")],
)  # fmt: skip
def test_pairs_of_texts_are_found(
    make: Make, tokenizer: PreTrainedTokenizerFast, first: str, second: str
) -> None:
    model, task = make(BertForSequenceClassification, classifier())
    others, labels = TEXTS[::-1], [0, 1, 1, 0, 1]
    rows = rows_of(**{second: others, first: TEXTS, "label": labels})
    alone = text_reference(model, tokenizer, torch.tensor(labels), TEXTS, others)
    examples = task.examples(rows)
    check(task, examples, model, alone)
    assert f"its second text is taken from column {second!r}" in rows.notes
    assert 1 in examples[0].fields["token_type_ids"]


@pytest.mark.parametrize("padding", [0, None])
def test_causal_classifiers_read_the_last_token_with_or_without_a_padding_id(
    make: Make, tokenizer: PreTrainedTokenizerFast, padding: int | None
) -> None:
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_layer=1, n_head=2, n_positions=64, num_labels=3,
        pad_token_id=padding, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model, task = make(GPT2ForSequenceClassification, config)
    labels = [0, 1, 2, 1, 0]

    def alone(example: Example) -> torch.Tensor:
        encoded = tokenizer(TEXTS[example.document], return_tensors="pt")
        target = torch.tensor(labels[example.document])
        logits = model(**encoded).logits[0]
        return torch.nn.functional.cross_entropy(logits, target)

    check(task, task.examples(rows_of(text=TEXTS, label=labels)), model, alone)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (3, r"x.jsonl:2 has the label 3, .*map lacks: it has 0 \(no\), 1 \(yes\), 2 \(maybe\)"),
        (-1, r"the label -1, .* a test split may have none"),
        ("never", r"the label 'never', which the model's map lacks: it has 0 \(no\)"),
        (0.5, "the label 0.5"),
        (float("nan"), "the label nan"),
        (None, "the label None"),
    ],
)
def test_labels_that_the_model_lacks(make: Make, label: Any, message: str) -> None:
    _, task = make(BertForSequenceClassification, classifier(**NAMES))
    with pytest.raises(DataError, match=message):
        task.examples(rows_of(text=TEXTS[:2], label=[0, label]))


def test_labels_of_the_wrong_kind(make: Make) -> None:
    architecture = BertForSequenceClassification
    _, task = make(architecture, classifier(num_labels=1))
    with pytest.raises(DataError, match=r"x.jsonl:1 has the label 'good'; expected 1 number"):
        task.examples(rows_of(text=["a"], label=["good"]))
    _, task = make(architecture, classifier(problem_type="multi_label_classification"))
    with pytest.raises(DataError, match=r"x.jsonl:1 has the label 1; expected a list of labels"):
        task.examples(rows_of(text=["a"], label=[1]))
    with pytest.raises(DataError, match=r"problem_type 'ranking' .* expected one of single_label"):
        make(architecture, classifier(), tweak={"problem_type": "ranking"})
    with pytest.raises(DataError, match=r"no column that looks like label; its columns are text"):
        task.examples(rows_of(text=["a"]))


def test_many_labels_are_not_all_listed(make: Make) -> None:
    _, task = make(BertForSequenceClassification, classifier(num_labels=100))
    with pytest.raises(DataError, match=r"0 \(LABEL_0\), .*11 \(LABEL_11\) and 88 more"):
        task.examples(rows_of(text=["a"], label=[100]))


# --- token classification


WORDS = [text.split() for text in TEXTS]
TAGS = [[(row + place) % 3 for place in range(len(words))] for row, words in enumerate(WORDS)]
TAGS[3] = [1, -100, 2, -100]


def test_token_classification_asks_each_word_s_first_token(
    make: Make, tokenizer: PreTrainedTokenizerFast
) -> None:
    model, task = make(BertForTokenClassification, BertConfig(**TINY, **NAMES))
    examples = task.examples(rows_of(tokens=WORDS, ner_tags=TAGS))

    def aligned(row: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Words one at a time between [CLS] and [SEP]."""
        tokens, labels = [2], [-100]
        for word, tag in zip(WORDS[row], TAGS[row], strict=True):
            parts = tokenizer(word, add_special_tokens=False)["input_ids"]
            tokens += parts
            labels += [tag, *[-100] * (len(parts) - 1)]
        return ids([*tokens, 3]), ids([*labels, -100])

    def alone(example: Example) -> torch.Tensor:
        tokens, labels = aligned(example.document)
        found: torch.Tensor = model(input_ids=tokens, labels=labels).loss
        return found

    losses = check(task, examples, model, alone)
    assert losses.weight.tolist() == [
        len(words) - 2 * (row == 3) for row, words in enumerate(WORDS)
    ]
    assert losses.answers is not None
    flat = [(row, tag) for row, tags in enumerate(TAGS) for tag in tags if tag != -100]
    answers = zip(losses.answers.example.tolist(), losses.answers.target.tolist(), strict=True)
    assert list(answers) == flat
    right = losses.answers.predicted == losses.answers.target
    assert losses.accuracy == pytest.approx(right.mean())
    assert task.unit == "label"


def test_token_classification_takes_names_and_cuts_long_rows(make: Make) -> None:
    config = BertConfig(**TINY, **NAMES)
    _, task = make(BertForTokenClassification, config, EvalData(seq_len=6))
    rows = rows_of(words=[["a", "name"], ["the"] * 20], labels=[["yes", "no"], ["maybe"] * 20])
    examples = task.examples(rows)
    assert [label for label in examples[0].fields["labels"] if label != -100] == [1, 0]
    assert examples[1].size == 6
    assert rows.notes[-1] == "1 of 2 texts are cut to 6 tokens"


@pytest.mark.parametrize(
    ("words", "tags", "message"),
    [
        (["a", "b"], [0], "x.jsonl:1 has 2 words and 1 labels"),
        ("a b", [0, 0], "x.jsonl:1 has no list of words in column 'tokens', found str"),
        (["a"], [7], r"x.jsonl:1 has the label 7, .* it has 0 \(no\)"),
        (["a"], [-100], "no word has a label"),
    ],
)
def test_token_classification_errors(make: Make, words: Any, tags: Any, message: str) -> None:
    _, task = make(BertForTokenClassification, BertConfig(**TINY, **NAMES))
    with pytest.raises(DataError, match=message):
        task.examples(rows_of(tokens=[words], ner_tags=[tags]))


# --- image classification


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[np.uint8], list[int]]:
    """Eight handwritten digits of 8 × 8, as bytes."""
    found = load_digits()
    return (found.images[:8] * 15).astype(np.uint8), found.target[:8].tolist()


def vit(**options: Any) -> ViTConfig:
    return ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        patch_size=4, num_labels=10, **{"image_size": 8, "num_channels": 1, **options},
    )  # fmt: skip


def resnet() -> ResNetConfig:
    return ResNetConfig(
        num_channels=3, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=10,
        layer_type="basic",
    )  # fmt: skip


def image_reference(model: PreTrainedModel, pixels: torch.Tensor, labels: list[int]) -> Reference:
    def alone(example: Example) -> torch.Tensor:
        row = example.document
        logits = model(pixel_values=pixels[row : row + 1]).logits
        return torch.nn.functional.cross_entropy(logits, torch.tensor(labels[row : row + 1]))

    return alone


def png(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("architecture", "config"),
    [(ViTForImageClassification, vit()), (ResNetForImageClassification, resnet())],
)
def test_images_of_every_kind_of_cell(
    make: Make,
    digits: tuple[NDArray[np.uint8], list[int]],
    tmp_path: Path,
    architecture: Any,
    config: Any,
) -> None:
    images, labels = digits
    model, task = make(architecture, config)
    (tmp_path / "4.png").write_bytes(png(images[4]))
    cells = [
        images[0],
        images[1][..., None],
        Image.fromarray(images[2]),
        {"bytes": png(images[3]), "path": None},
        {"bytes": None, "path": str(tmp_path / "4.png")},
        png(images[5]),
        (images[6] / 255).tolist(),
        (images[7][None] / 255).tolist(),
    ]
    channels = config.num_channels
    pixels = torch.tensor(images / 255, dtype=torch.float32)[:, None].repeat(1, channels, 1, 1)
    examples = task.examples(rows_of(image=cells, label=labels))
    losses = check(task, examples, model, image_reference(model, pixels, labels))
    assert losses.answers is not None
    assert losses.answers.target.tolist() == labels
    assert losses.weight.tolist() == [1] * 8
    assert (task.name, task.unit) == ("image-classification", "example")


def test_relative_paths_are_looked_up_beside_the_data(make: Make, tmp_path: Path) -> None:
    _, task = make(ViTForImageClassification, vit())
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.png").write_bytes(png(np.full((8, 8), 51, np.uint8)))
    rows = Rows([{"img": "a.png", "label": 3}], ["x.csv:1"], str(data / "x.csv"))
    batch = task.batch(task.examples(rows))
    assert torch.allclose(batch["pixel_values"], torch.full((1, 1, 8, 8), 0.2))
    cells = [{"img": "a.png", "label": 3}, {"img": "b.png", "label": 3}]
    lacking = Rows(cells, ["x.csv:1", "x.csv:2"], str(data / "x.csv"))
    with pytest.raises(DataError, match=r"x.csv:2: no such picture: b.png"):
        task.examples(lacking)


@pytest.mark.parametrize("column", ["image", "pixel_values"])
def test_where_channels_may_be_at_both_ends_the_column_decides(make: Make, column: str) -> None:
    _, task = make(ResNetForImageClassification, resnet())
    image = np.arange(36, dtype=np.float32).reshape(3, 4, 3)
    batch = task.batch(task.examples(rows_of(**{column: [image], "label": [0]})))
    expected = image if column == "pixel_values" else image.transpose(2, 0, 1)
    assert np.array_equal(batch["pixel_values"][0].numpy(), expected)


def test_colour_channels_first_and_last_and_palettes(make: Make) -> None:
    _, task = make(ResNetForImageClassification, resnet())
    image = np.random.default_rng(0).integers(0, 255, (8, 9, 3), dtype=np.uint8)
    flat = Image.fromarray(np.full((8, 9), 7, np.uint8)).convert("P")
    rows = rows_of(image=[image, image.transpose(2, 0, 1), flat], label=[0, 0, 0])
    pixels = task.batch(task.examples(rows))["pixel_values"]
    assert pixels.shape == (3, 3, 8, 9)
    assert torch.equal(pixels[0], pixels[1])
    np.testing.assert_allclose(pixels[0].numpy(), image.transpose(2, 0, 1) / 255, atol=1e-6)
    assert torch.allclose(pixels[2], torch.full((3, 8, 9), 7 / 255))


def test_the_model_s_image_processor_is_used(
    make: Make, digits: tuple[NDArray[np.uint8], list[int]], tmp_path: Path
) -> None:
    images, labels = digits
    processor = ViTImageProcessorPil(size={"height": 16, "width": 16}, image_mean=[0.3] * 3)
    processor.save_pretrained(tmp_path)
    model, task = make(ViTForImageClassification, vit(image_size=16, num_channels=3))
    colour = [np.repeat(image[..., None], 3, axis=2) for image in images]
    pixels = processor(images=colour, return_tensors="pt")["pixel_values"]
    assert pixels.shape[2:] == (16, 16)
    cells: list[Any] = [*images[:4], *(Image.fromarray(image) for image in images[4:])]
    rows = rows_of(image=cells, label=labels)
    check(task, task.examples(rows), model, image_reference(model, pixels, labels))
    ready = rows_of(pixel_values=pixels.numpy().tolist(), label=labels)
    check(task, task.examples(ready), model, image_reference(model, pixels, labels))


def test_ready_pixel_values_are_not_processed_again(make: Make, tmp_path: Path) -> None:
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path)
    _, task = make(ViTForImageClassification, vit(num_channels=3))
    ready = np.arange(192).reshape(3, 8, 8)
    batch = task.batch(task.examples(rows_of(pixel_values=[ready.tolist()], label=[0])))
    assert np.array_equal(batch["pixel_values"][0].numpy(), ready)


def test_what_a_configuration_leaves_out_is_transformers_default(tmp_path: Path) -> None:
    task = make_task("image-classification", tmp_path, {"model_type": "vit"}, EvalData(), Compute())
    with pytest.raises(DataError, match="the model takes pictures of 224 × 224, found 8 × 8"):
        task.examples(rows_of(image=[np.zeros((8, 8))], label=[1]))


def test_an_image_processor_that_does_not_load_is_noted(make: Make, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "NoSuchThing"}')
    _, task = make(ViTForImageClassification, vit())
    rows = rows_of(image=[np.zeros((8, 8))], label=[0])
    task.examples(rows)
    assert "values are taken as given" in rows.notes[-1]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (np.zeros((9, 8)), "x.jsonl:1: the model takes pictures of 8 × 8, found 9 × 8"),
        (np.zeros((8, 8, 3)), r"the model takes 1 channels, found shape \(3, 8, 8\)"),
        (np.zeros(64), r"expected height × width, .* found shape \(64,\)"),
        ([[1, 2], [3]], "not a picture"),
        ("nowhere.png", "no such picture"),
        (b"text", "not a picture"),
        ({"bytes": None, "path": None}, "not a picture: found NoneType"),
    ],
)
def test_pictures_that_do_not_suit(make: Make, cell: Any, message: str) -> None:
    _, task = make(ViTForImageClassification, vit())
    with pytest.raises(DataError, match=message):
        task.examples(rows_of(image=[cell], label=[0]))


def test_pictures_of_several_sizes_and_labels_out_of_range(make: Make) -> None:
    _, task = make(ResNetForImageClassification, resnet())
    examples = task.examples(rows_of(image=[np.zeros((8, 8)), np.zeros((8, 9))], label=[0, 1]))
    with pytest.raises(DataError, match=r"several sizes: 8 × 8 and, in x.jsonl:2, 8 × 9"):
        task.batch(examples)
    with pytest.raises(DataError, match=r"the label 10, .* 0 \(LABEL_0\)"):
        task.examples(rows_of(image=[np.zeros((8, 8))], label=[10]))
    with pytest.raises(DataError, match=r"no column that looks like image.*--image-column"):
        task.examples(rows_of(text=["a"], label=[0]))


# --- which task


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("LlamaForCausalLM", "causal-lm"),
        ("BertForMaskedLM", "masked-lm"),
        ("T5ForConditionalGeneration", "seq2seq-lm"),
        ("BartForConditionalGeneration", "seq2seq-lm"),
        ("LlamaForSequenceClassification", "sequence-classification"),
        ("RobertaForTokenClassification", "token-classification"),
        ("DeiTForImageClassificationWithTeacher", "image-classification"),
    ],
)
def test_the_architecture_names_the_task(architecture: str, name: str) -> None:
    assert task_name({"architectures": [architecture]}) == name
    assert task_name({"architectures": [architecture]}, name) == name


def test_a_checkpoint_with_its_own_code_names_its_task() -> None:
    config = {"architectures": ["MyModel"], "auto_map": {"AutoModelForMaskedLM": "x.MyModel"}}
    assert task_name(config) == "masked-lm"


def test_tasks_that_cannot_be_done() -> None:
    with pytest.raises(ArgumentError, match=r"unknown task 'mlm': expected one of causal-lm, .*"):
        task_name({"architectures": ["BertForMaskedLM"]}, "mlm")
    config = {"architectures": ["BertForSequenceClassification"]}
    message = "BertForSequenceClassification cannot do causal-lm; it can do sequence-classification"
    with pytest.raises(ArgumentError, match=message):
        task_name(config, "causal-lm")
    with pytest.raises(DataError, match=f"no task goes with ViTModel; .*{', '.join(TASKS)}"):
        task_name({"architectures": ["ViTModel"]})
    with pytest.raises(DataError, match="no task goes with a model without architectures"):
        task_name({})


@pytest.mark.parametrize("name", [name for name in TASKS if "image" not in name])
def test_text_tasks_need_a_tokenizer(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no tokenizer beside the weights"):
        make_task(name, tmp_path, {"model_type": "bert"}, EvalData(), Compute())


def test_windows_are_no_longer_than_model_and_tokenizer_take(
    make: Make, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"windows of 129 tokens are longer .* context of 128"):
        make(BertForMaskedLM, BertConfig(**TINY), EvalData(seq_len=129))
    monkeypatch.setattr(tokenizer, "model_max_length", 10)
    _, task = make(BertForMaskedLM, BertConfig(**TINY))
    assert max(example.size for example in task.examples(rows_of(text=TEXTS))) == 10
