"""Pictures to classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.loading import IMAGE_PROCESSOR, load_image_processor
from mergekit_geo.config.data import EvalData
from mergekit_geo.data.images import as_given, channels_first, decode_image, stated_file
from mergekit_geo.data.labels import LABEL, LabelMap
from mergekit_geo.data.rows import Rows, find_column
from mergekit_geo.data.unlabelled import labelled
from mergekit_geo.errors import DataError, FormatError
from mergekit_geo.modules.load import quiet_transformers
from mergekit_geo.tasks.causal_lm import MOST_AT_ONCE
from mergekit_geo.tasks.kind import TaskInputs, TaskKind
from mergekit_geo.tasks.problem_types import class_losses
from mergekit_geo.tasks.processors import beside, named
from mergekit_geo.tasks.shown import bracketed
from mergekit_geo.tasks.task import BatchLosses, Example, Task

READY = "pixel_values"
"""Name of a column that holds the model's inputs already."""

RESIZE = "resize them, or put the model's preprocessor_config.json beside its weights"
IMAGE = ("image", "img", READY, "picture")


class ImageClassification:
    """Loss of a picture's class.

    Args:
        config: Names the labels and, if it does, the channels and size of a picture.
        data: Names of the columns.
        processor: The model's image processor, if it has one that can be used.
        note: Why it cannot be.
    """

    name, unit, metric = "image-classification", "example", "accuracy"
    exclusive = True
    """A picture has one of several classes."""

    def __init__(
        self, config: Config, data: EvalData, processor: Any = None, note: str = ""
    ) -> None:
        self.labels, self.data = LabelMap.of(config), data
        self.channels: int | None = config.get("num_channels")
        self.size = _pair(config.get("image_size"))
        self.processor, self.note = processor, note

    def columns(self, rows: Rows) -> Sequence[str]:
        """The columns of pictures and of their classes."""
        return (
            find_column(rows, self.data.image_column, IMAGE, "image", "--image-column"),
            find_column(rows, self.data.label_column, LABEL, "label", "--label-column"),
        )

    def examples(self, rows: Rows) -> list[Example]:
        """One a row; pictures are read when a batch of them is made, the first one now as well.

        Raises:
            DataError: A column is missing, a label is not one of the model's, or the first picture
                does not suit the model.
        """
        column, label = self.columns(rows)
        rows.notes.extend([self.note] if self.note else [])
        found = []
        for row, name in enumerate(rows.names):
            target = self.labels.index(rows.cells[row][label], name, rows.source)
            with named(rows, row):
                picture = stated_file(rows.cells[row][column], beside(rows))
            fields = {"rows": rows, "column": column, "target": target, "picture": picture}
            found.append(Example(row, 1, 1, fields))
        self._pixels(found[0])
        return found

    def shown(self, example: Example) -> str:
        """Channels, height and width of the picture, and its class in brackets."""
        label = self.labels.name(example.fields["target"])
        return f"a picture of {_times(self._pixels(example).shape)} {bracketed(label)}"

    def texts(self, rows: Rows) -> list[list[str]]:
        """The file of every picture, where that is what the row holds."""
        column, _ = self.columns(rows)
        cells = (row[column] for row in rows.cells)
        return [[cell] if isinstance(cell, str) else [] for cell in cells]

    def batch_size(self, examples: Sequence[Example]) -> int:
        """A fixed number: there are few logits."""
        return MOST_AT_ONCE

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Pixel values (b, channels, height, width) and classes (b,).

        Raises:
            DataError: A picture does not suit the model, or they are of several sizes.
        """
        pixels = [self._pixels(example) for example in examples]
        _check_alike(examples, pixels)
        targets = torch.tensor([example.fields["target"] for example in examples])
        return {"pixel_values": torch.from_numpy(np.stack(pixels)), "target": targets}

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """Cross entropy of each picture, in nats."""
        return class_losses(self.logits(model, batch), batch["target"])

    def logits(self, model: Module, batch: dict[str, Tensor]) -> Tensor:
        """Logits of every class of each picture: (b, classes)."""
        dtype = next(model.parameters()).dtype
        found: Tensor = model(pixel_values=batch["pixel_values"].to(dtype)).logits
        return found

    def unlabelled(self, rows: Rows) -> Rows:
        """The rows with some class or other, whatever classes they have."""
        return labelled(rows, self.data.label_column or LABEL[0], lambda cells: 0)

    def _pixels(self, example: Example) -> NDArray[np.float32]:
        """A picture as channels × height × width, as the model takes it."""
        rows, column = example.fields["rows"], example.fields["column"]
        with named(rows, example.document):
            cell = rows.cells[example.document][column]
            image = decode_image(cell, beside(rows))
            image = channels_first(image, self.channels, prefer_first=column == READY)
            pixels = self._processed(image, ready=column == READY)
            self._check_size(pixels)
        return pixels

    def _processed(self, image: NDArray[Any], *, ready: bool) -> NDArray[np.float32]:
        """Process images of integers up to 255; leave others as they are."""
        whole = image.dtype.kind in "iu" and image.min() >= 0 and image.max() <= 255  # noqa: PLR2004
        if self.processor is None or ready or not whole:
            return as_given(image)
        picture = image.astype(np.uint8).transpose(1, 2, 0)
        done = self.processor(
            images=[picture], return_tensors="pt", input_data_format="channels_last"
        )
        return np.asarray(done["pixel_values"][0].numpy(), dtype=np.float32)

    def _check_size(self, pixels: NDArray[np.float32]) -> None:
        if self.size is not None and pixels.shape[1:] != self.size:
            raise DataError(
                f"the model takes pictures of {_times(self.size)}, "
                f"found {_times(pixels.shape[1:])}",
                remedy=RESIZE,
            )


def load_processor(folder: Path, *, trusted: bool) -> tuple[Any, str]:
    """The image processor in a checkpoint's folder, and a note where it cannot be used.

    Args:
        folder: Of the checkpoint.
        trusted: Whether code that lies there may run.

    Returns:
        None and no note where there is none; None and a note where it does not load.

    Raises:
        UnsupportedError: It comes with code of its own, which is not trusted.
    """
    if not (folder / IMAGE_PROCESSOR).is_file():
        return None, ""
    try:
        with quiet_transformers():
            return load_image_processor(folder, trusted=trusted), ""
    except FormatError as error:
        return None, f"{error.message}: values are taken as given"


def _check_alike(examples: Sequence[Example], pixels: Sequence[NDArray[np.float32]]) -> None:
    for example, found in zip(examples, pixels, strict=True):
        if found.shape != pixels[0].shape:
            rows = example.fields["rows"]
            raise DataError(
                f"pictures of several sizes: {_times(pixels[0].shape[1:])} and, in "
                f"{rows.names[example.document]}, {_times(found.shape[1:])}",
                where=rows.source,
                remedy=RESIZE,
            )


def _pair(size: Any) -> tuple[int, int] | None:
    """Height and width; None where the configuration has no size that is fixed."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, Sequence) and len(size) == 2:  # noqa: PLR2004
        return int(size[0]), int(size[1])
    return None


def _times(size: Sequence[int]) -> str:
    return " × ".join(map(str, size))


def _make(parts: TaskInputs) -> Task:
    processor, note = load_processor(parts.folder, trusted=parts.compute.trust_remote_code)
    return ImageClassification(parts.config, parts.data, processor, note)


KIND = TaskKind(
    "image-classification",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "AutoModelForImageClassification",
    _make,
)
