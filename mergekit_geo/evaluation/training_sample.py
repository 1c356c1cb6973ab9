"""Training data of one model, as statistics of the model are computed on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.config.measures import Compute
from mergekit_geo.data.load import refuse_training
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.sample import Sample, prepare

if TYPE_CHECKING:
    from mergekit_geo.config.sets import DataSource


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
