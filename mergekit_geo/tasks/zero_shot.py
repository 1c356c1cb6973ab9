"""Dual encoders of images and texts, such as CLIP and SigLIP.

Images with captions have the model's contrastive loss in groups whose composition does not depend
on batches: cross entropy both ways (CLIP), or of every pair by itself (SigLIP). Images with class
names have the same loss against prompts of all classes, and zero-shot accuracy.

Legend: b examples, c candidates of each, i images, t texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, functional

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.config.data import EvalData
from mergekit_geo.data.images import picture_of, stated_file
from mergekit_geo.data.labels import LABEL, ClassId, LabelMap
from mergekit_geo.data.rows import Rows, find_column, texts_of
from mergekit_geo.errors import DataError
from mergekit_geo.modules.load import quiet_transformers
from mergekit_geo.tasks.causal_lm import MOST_AT_ONCE
from mergekit_geo.tasks.contrastive import numbered, ranking_losses
from mergekit_geo.tasks.groups import group_size, groups_of
from mergekit_geo.tasks.image_classification import IMAGE
from mergekit_geo.tasks.kind import TaskInputs, TaskKind
from mergekit_geo.tasks.processors import beside, named, processor_of, taken_by
from mergekit_geo.tasks.shown import bracketed
from mergekit_geo.tasks.task import BatchLosses, Example, Task

CAPTION = ("caption", "text", "captions", "description", "title", "sentence", "prompt")
PROMPT = "a photo of a {}"
MOST_PROMPTS = 256
"""Most images of a batch, where each batch encodes the prompts of all classes again."""

RETRIEVAL, ZERO_SHOT = "retrieval accuracy", "zero-shot accuracy"


class ZeroShotImageClassification:
    """Loss of images and the texts that belong to them.

    Args:
        processor: Of the models.
        config: Says how many tokens a text may have, and whether the loss is a sigmoid's.
        data: Names of the columns, and the seed of the groups.
    """

    name, unit = "zero-shot-image-classification", "example"

    def __init__(self, processor: Any, config: Config, data: EvalData) -> None:
        self.processor, self.data = processor, data
        self.is_sigmoid = str(config.get("model_type")).startswith("siglip")
        most = (config.get("text_config") or {}).get("max_position_embeddings")
        self.most_tokens = min(most or data.seq_len or 77, data.seq_len or 1 << 30)
        self.metric, self._batch = RETRIEVAL, MOST_AT_ONCE
        self.labels: LabelMap | None = None

    def columns(self, rows: Rows) -> Sequence[str]:
        """The columns of images, and of captions or class names."""
        return (self._image(rows), self._text(rows)[0])

    def examples(self, rows: Rows) -> list[Example]:
        """One an image; of captions those of a group are of one document, the group's first row.

        Raises:
            DataError: A column is missing, an image is, a class has no name, or there is one pair.
        """
        image, (column, is_label) = self._image(rows), self._text(rows)
        stated = [_stated(rows, row, image) for row in range(len(rows.cells))]
        self._pictures(rows, [0])
        if is_label:
            return self._labelled(rows, class_names(rows, column), stated)
        return self._captioned(rows, texts_of(rows, column), stated)

    def texts(self, rows: Rows) -> list[list[str]]:
        """The caption or the class name of each row."""
        column, is_label = self._text(rows)
        found = class_names(rows, column) if is_label else texts_of(rows, column)
        return [[text] for text in found]

    def shown(self, example: Example) -> str:
        """The row's image, and in brackets what belongs to it."""
        own = example.fields["texts"][example.fields.get("target", 0)]
        return f"the image of {example.fields['rows'].names[example.row]}\n{bracketed(own)}"

    def batch_size(self, examples: Sequence[Example]) -> int:
        """Whole groups; of classes as many images as these, within bounds."""
        return self._batch

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Images and texts, each once, and which of them (b, candidates) an example compares.

        `image` and `text` (b,) are its own, `images` and `texts` its candidates, its own first and
        -1 where there is none; `target` (b,) is its class, if it has one.
        """
        rows = examples[0].fields["rows"]
        images = _once(row for example in examples for row in example.fields["images"])
        texts = _once(text for example in examples for text in example.fields["texts"])
        found = self._processed(rows, list(images), list(texts))
        for name, place in (("images", images), ("texts", texts)):
            lists = [[place[one] for one in example.fields[name]] for example in examples]
            found[name] = numbered(lists)
        if "target" in examples[0].fields:
            found["target"] = torch.tensor([example.fields["target"] for example in examples])
        return found

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """The model's own loss of each example, in nats."""
        logits_it = model(**taken_by(model, batch)).logits_per_image.float()
        images, texts = batch["images"], batch["texts"]
        if "target" in batch:
            logits_bt = logits_it[images[:, 0]][:, texts[0]]
            return self._of_classes(logits_bt, batch["target"])
        to_texts = logits_it[images[:, 0]].gather(1, texts.clamp(min=0))
        to_images = logits_it.T[texts[:, 0]].gather(1, images.clamp(min=0))
        one, two = ranking_losses(to_texts, texts >= 0), ranking_losses(to_images, images >= 0)
        assert one.score is not None
        assert two.score is not None
        right = (one.score + two.score) / 2
        if self.is_sigmoid:
            return BatchLosses(_sigmoid_losses(to_images, images >= 0), right)
        return BatchLosses((one.loss + two.loss) / 2, right)

    def _of_classes(self, logits_bt: Tensor, target: Tensor) -> BatchLosses:
        predicted = logits_bt.argmax(dim=1)
        owner = torch.arange(len(target), device=target.device)
        if self.is_sigmoid:
            right = functional.one_hot(target, logits_bt.shape[1]).to(logits_bt)
            loss = functional.binary_cross_entropy_with_logits(logits_bt, right, reduction="none")
            loss = loss.sum(dim=1)
        else:
            loss = functional.cross_entropy(logits_bt, target, reduction="none")
        return BatchLosses(loss, (predicted == target).float(), owner, target, predicted)

    def _labelled(
        self, rows: Rows, names: Sequence[str], stated: Sequence[tuple[int, ...]]
    ) -> list[Example]:
        classes = sorted({*names})
        if len(classes) < 2:  # noqa: PLR2004
            raise DataError(f"there is one class alone, {classes[0]!r}", where=rows.source)
        self.metric = ZERO_SHOT
        self._batch = min(max(MOST_AT_ONCE, len(classes)), MOST_PROMPTS)
        rows.notes.append(f"prompts are {PROMPT.format('CLASS')!r}, of {len(classes)} classes")
        self.labels = LabelMap(len(classes), {name: i for i, name in enumerate(classes)})
        prompts = [PROMPT.format(name) for name in classes]
        return [
            Example(row, 1, 1, {"rows": rows, "images": [row], "texts": prompts,
                    "target": classes.index(name), "picture": stated[row]})
            for row, name in enumerate(names)
        ]  # fmt: skip

    def _captioned(
        self, rows: Rows, texts: Sequence[str], stated: Sequence[tuple[int, ...]]
    ) -> list[Example]:
        if len({*texts}) < 2:  # noqa: PLR2004
            raise DataError(
                "there is one caption alone, and nothing to tell it from",
                where=rows.source,
                remedy="give more images with captions: 80 or more",
            )
        size = group_size(len(texts))
        self.metric, self._batch = RETRIEVAL, max(1, MOST_AT_ONCE // size) * size
        keys = [_key(cells[self._image(rows)]) for cells in rows.cells]
        found = []
        for group in groups_of(keys, self.data.seed, size):
            for row in group:
                others = [r for r in group if texts[r] != texts[row] and keys[r] != keys[row]]
                own = [row, *others]
                fields = {"rows": rows, "images": own, "picture": stated[row],
                          "texts": list(dict.fromkeys(texts[r] for r in own))}  # fmt: skip
                found.append(Example(group[0], 1, 1, fields, row))
        rows.notes.append(
            f"images and captions are told from those of about {size - 1} others, in groups that "
            "the seed makes; a document is a group"
        )
        return found

    def _image(self, rows: Rows) -> str:
        return find_column(rows, self.data.image_column, IMAGE, "image", "--image-column")

    def _text(self, rows: Rows) -> tuple[str, bool]:
        """The column of captions or of class names, and whether it is the latter."""
        label, caption = self.data.label_column, self.data.text_column
        present = {*rows.columns}
        if label is not None or (
            caption is None and not present & {*CAPTION} and present & {*LABEL}
        ):
            return find_column(rows, label, LABEL, "class name", "--label-column"), True
        return find_column(rows, caption, CAPTION, "caption", "--text-column"), False

    def _pictures(self, rows: Rows, some: Sequence[int]) -> list[Any]:
        column, found = self._image(rows), []
        for row in some:
            with named(rows, row):
                found.append(picture_of(rows.cells[row][column], beside(rows)))
        return found

    def _processed(
        self, rows: Rows, images: Sequence[int], texts: Sequence[str]
    ) -> dict[str, Tensor]:
        """The model's inputs."""
        pad = "max_length" if self.is_sigmoid else True
        tokenizer = self.processor.tokenizer
        most = min(self.most_tokens, tokenizer.model_max_length)
        with quiet_transformers():
            words = tokenizer(
                list(texts), padding=pad, truncation=True, max_length=most, return_tensors="pt"
            )
            pixels = self.processor.image_processor(
                self._pictures(rows, images), return_tensors="pt"
            )
        made = {**words, **pixels}
        return {name: value for name, value in made.items() if isinstance(value, Tensor)}


def class_names(rows: Rows, column: str) -> list[str]:
    """The class of each row by its name.

    Raises:
        DataError: A class is a number alone.
    """
    found = []
    for cells, name in zip(rows.cells, rows.names, strict=True):
        cell = cells[column]
        if isinstance(cell, ClassId) and 0 <= cell < len(cell.names):
            cell = str(cell.names[cell])
        if not isinstance(cell, str) or cell.strip().lstrip("-").isdigit():
            raise DataError(
                f"{name} has the class {cell!r} in column {column!r}, which is no name",
                where=rows.source,
                remedy="give the names of classes, of which prompts are made",
            )
        found.append(cell)
    return found


def _stated(rows: Rows, row: int, column: str) -> tuple[int, ...]:
    with named(rows, row):
        return stated_file(rows.cells[row][column], beside(rows))


def _key(cell: Any) -> str:
    """What tells whether two images are the same."""
    held: Any = cell.get("bytes") or cell.get("path") if isinstance(cell, dict) else cell
    held = held.tobytes() if hasattr(held, "tobytes") else held
    return hashlib.sha256(held if isinstance(held, bytes) else repr(held).encode()).hexdigest()


def _once(values: Iterable[Any]) -> dict[Any, int]:
    """The place of each value among those that differ."""
    return {value: place for place, value in enumerate(dict.fromkeys(values))}


def _sigmoid_losses(logits_bc: Tensor, present_bc: Tensor) -> Tensor:
    """Sum over candidates of each pair's own loss; the first is the one that belongs."""
    signs_bc = -torch.ones_like(logits_bc)
    signs_bc[:, 0] = 1
    return -(functional.logsigmoid(signs_bc * logits_bc) * present_bc).sum(dim=1)


def _make(parts: TaskInputs) -> Task:
    return ZeroShotImageClassification(processor_of(parts), parts.config, parts.data)


KIND = TaskKind(
    "zero-shot-image-classification",
    "MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "AutoModelForZeroShotImageClassification",
    _make,
    by_group=True,
)
