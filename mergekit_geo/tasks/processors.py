"""Processors of images and text, and the pictures of rows on their way into them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase

from mergekit_geo.checkpoints.loading import IMAGE_PROCESSOR, PROCESSOR, load_processor
from mergekit_geo.data.rows import Rows
from mergekit_geo.errors import DataError
from mergekit_geo.modules.load import quiet_transformers
from mergekit_geo.tasks.kind import TaskInputs

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def processor_of(parts: TaskInputs, instead: str = "") -> Any:
    """The processor of images and text in a checkpoint's folder, with its chat template.

    Args:
        parts: Of the task.
        instead: What can be measured without one.

    Raises:
        DataError: There is none, or no tokenizer.
        UnsupportedError: It comes with code of its own, which is not trusted.
    """
    folder = parts.folder
    missing = DataError(
        "the model has no processor of images and text: expected "
        f"{PROCESSOR} or {IMAGE_PROCESSOR} beside its weights, and its tokenizer",
        where=str(folder),
        remedy=f"copy the processor's files from the model's base{instead and f'; {instead}'}",
    )
    if not any((folder / file).is_file() for file in (PROCESSOR, IMAGE_PROCESSOR)):
        raise missing
    parts.tokenizer()
    with quiet_transformers():
        found = load_processor(folder, trusted=parts.compute.trust_remote_code)
    if isinstance(found, PreTrainedTokenizerBase) or not hasattr(found, "tokenizer"):
        raise missing
    if found.tokenizer.chat_template is None:
        found.tokenizer.chat_template = getattr(found, "chat_template", None)
    return found


@contextmanager
def named(rows: Rows, row: int) -> Iterator[None]:
    """Name the row in errors about its pictures, those of a processor included.

    Raises:
        DataError: In place of what is raised.
    """
    where = f"{rows.source}: {rows.names[row]}"
    try:
        yield
    except DataError as error:
        raise DataError(error.message, where=error.where or where, remedy=error.remedy) from error
    except (ValueError, IndexError, TypeError) as error:  # of a processor
        line = next(iter(str(error).splitlines()), "")
        raise DataError(f"the processor refuses it: {line}", where=where) from error


def beside(rows: Rows) -> Path:
    """Folder that the paths of pictures are relative to."""
    return Path(rows.source).expanduser().parent


def taken_by(model: Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that a model takes, numbers with a fraction in its own dtype.

    Args:
        model: Of pictures, whose processor made the tensors.
        batch: All of them, by name.
    """
    known = inspect.signature(model.forward).parameters
    dtype = next(model.parameters()).dtype
    return {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in batch.items()
        if name in known
    }
