"""Training data of one model, as statistics of it are computed: with labels, or without."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.config.measures import Compute
from mergekit_geo.data.load import refuse_training
from mergekit_geo.errors import DataError, UnsupportedError
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.evaluation.sample import Sample, prepare

if TYPE_CHECKING:
    from mergekit_geo.config.sets import DataSource
    from mergekit_geo.tasks.task import Example

LABELS = ("target", "labels")
"""Fields of an example that hold its label."""
ROW = ("rows", "column", "picture")
"""Fields by which an example finds its picture."""


def training_sample(
    source: DataSource, model: Checkpoint, compute: Compute, *, labels: bool = True
) -> Sample | None:
    """The examples of a model's training data; None for a function of the caller's.

    Args:
        source: The data.
        model: Its data is here; it comes with its tokenizer or image processor.
        compute: Whether code that comes with it may run.
        labels: Whether the data has labels; without, they are not looked at.

    Raises:
        DataError: The data is missing or unusable, or nothing says how the model reads it.
        UnsupportedError: Labels are not to be read, and the task gives no classes.
    """
    data = source.as_settings
    if data is None:
        return None
    if data.benchmarks:
        refuse_training(data)
    if model.folder is None:
        raise DataError(
            "nothing says how the model reads the data: it comes without its tokenizer or image "
            "processor",
            where=model.name,
            remedy="name its folder"
            + (", or give a FunctionObjective of training batches" if labels else ""),
        )
    return prepare(data, model.folder, model.config, compute, labels=labels)


def unlabelled_sample(source: DataSource, model: Checkpoint, compute: Compute) -> Sample:
    """Examples of data that may have labels or none; they are not looked at.

    Args:
        source: The data.
        model: How it is read.
        compute: Whether code that comes with the model may run.

    Raises:
        UnsupportedError: It is a function of the caller's, or predictions have no entropy.
        DataError: The data is missing or unusable, or nothing says how the model reads it.
    """
    sample = training_sample(source, model, compute, labels=False)
    if sample is None:
        raise UnsupportedError(
            "a function gives losses, and no predictions that have an entropy",
            remedy="give data: --train-data SOURCE",
        )
    return sample


def without_inputs(objective: TaskObjective, known: Collection[str]) -> TaskObjective:
    """Leave out the examples whose inputs are known, whatever their labels.

    Args:
        objective: The examples.
        known: Keys of inputs.
    """
    return replace(objective, kept=[one for one in objective.kept if input_key(one) not in known])


def input_key(example: Example) -> str:
    """SHA-256 of what a model is given of an example, without its label."""
    fields = example.fields
    found = hashlib.sha256()
    for name in sorted(fields.keys() - {*LABELS, *ROW}):
        found.update(f"{name} {_plain(fields[name])}".encode())
    if "rows" in fields:
        found.update(_plain(fields["rows"].cells[example.document][fields["column"]]).encode())
    return found.hexdigest()


def _plain(value: Any) -> str:
    if hasattr(value, "tobytes"):  # arrays and images
        value = value.tobytes()
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    try:
        return hashlib.sha256(np.asarray(value, dtype=np.float64).tobytes()).hexdigest()
    except (TypeError, ValueError):
        return repr(value)
