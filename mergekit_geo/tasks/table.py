"""Which task a model is for, and how it is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from transformers.models.auto import modeling_auto

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.config.data import EvalData
from mergekit_geo.config.measures import Compute
from mergekit_geo.data.pictured import has_pictures
from mergekit_geo.data.rows import Rows
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.tasks import (
    causal_lm,
    image_classification,
    image_text_to_text,
    masked_lm,
    sentence_similarity,
    seq2seq,
    sequence_classification,
    token_classification,
    zero_shot,
)
from mergekit_geo.tasks.kind import TaskInputs, TaskKind, with_defaults
from mergekit_geo.tasks.per_byte import PerByte
from mergekit_geo.tasks.task import Task

if TYPE_CHECKING:
    from mergekit_geo.tasks.per_byte import CountsBytes

MULTIMODAL = ("MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES")
"""transformers' tables of models that read more than text."""

TEXT_ALONE = "the model reads more than text; its loss is that of text alone"


def task_name(config: Config, asked: str | None = None) -> str:
    """What is asked for, else the task of the architecture.

    Args:
        config: The parsed `config.json`.
        asked: Such as `masked-lm`.

    Raises:
        ArgumentError: No such task, or the architecture cannot do it.
        DataError: No task goes with the architecture.

    Example:
        >>> task_name({"architectures": ["BertForSequenceClassification"]})
        'sequence-classification'
    """
    if asked is not None and asked not in TASKS:
        raise ArgumentError(f"unknown task {asked!r}: expected one of {', '.join(TASKS)}")
    able = [name for name, kind in TASKS.items() if _can(config, kind)]
    able = [*([causal_lm.KIND.name] if reads_text_alone(config) else []), *able]
    names = ", ".join(config.get("architectures") or []) or "a model without architectures"
    if not able:
        raise DataError(
            f"no task goes with {names}; those there are: {', '.join(TASKS)}",
            remedy="from Python, measure with a loss function of your own",
        )
    if asked is not None and asked not in able:
        raise ArgumentError(f"{names} cannot do {asked}; it can do {', '.join(able)}")
    return asked or able[0]


def task_for(rows: Rows, config: Config, data: EvalData) -> str:
    """The task that is asked for, else that of the architecture, or of it on rows with pictures.

    Args:
        rows: The data.
        config: The parsed `config.json`.
        data: Names a task and the column of images, if it does.

    Raises:
        ArgumentError: No such task, or the architecture cannot do it.
        DataError: No task goes with the architecture.
    """
    name = task_name(config, data.task)
    reads = name == causal_lm.KIND.name and _can(config, image_text_to_text.KIND)
    if data.task is None and reads and has_pictures(rows, data.image_column):
        return image_text_to_text.KIND.name
    return name


def make_task(
    name: str,
    folder: Path,
    config: Config,
    data: EvalData,
    compute: Compute,
    *,
    per_byte: bool = False,
) -> Task:
    """A task for the models of one architecture.

    Args:
        name: As `task_name` gives it.
        folder: Of a checkpoint, with its tokenizer or image processor.
        config: The parsed `config.json`.
        data: Names of columns, seed, window length.
        compute: Whether code that comes with a checkpoint is run.
        per_byte: Count loss per byte of text, where the task can.

    Raises:
        DataError: No tokenizer, one that lacks what the task needs, or windows longer than the
            model takes.
    """
    full = with_defaults(config)
    note = TEXT_ALONE if name == causal_lm.KIND.name and reads_text_alone(full) else ""
    kind = TASKS[name]
    task = kind.make(TaskInputs(folder, full, data, compute, note, per_byte))
    return PerByte(cast("CountsBytes", task)) if per_byte and kind.counts_bytes else task


def reads_text_alone(config: Config) -> bool:
    """Whether this is a decoder of text, pictures or sound, of which text alone can be measured."""
    if any(_can(config, kind) for kind in KINDS if kind is not image_text_to_text.KIND):
        return False
    able = any(_is_listed(config, table) for table in MULTIMODAL)
    return able and not with_defaults(config).get("is_encoder_decoder")


def _can(config: Config, kind: TaskKind) -> bool:
    listed = _is_listed(config, kind.table) or kind.auto in (config.get("auto_map") or {})
    return listed or kind.also(config)


def _is_listed(config: Config, table: str) -> bool:
    own = (config.get("architectures") or [""])[0]
    return own in set(_flat(getattr(modeling_auto, table, {}).values()))


def _flat(names: object) -> Iterator[str]:
    """All class names of an entry: some models have several for one task."""
    if isinstance(names, str):
        yield names
    elif hasattr(names, "__iter__"):
        for part in names:
            yield from _flat(part)


KINDS = (
    causal_lm.KIND,
    seq2seq.KIND,
    masked_lm.KIND,
    sequence_classification.KIND,
    token_classification.KIND,
    image_classification.KIND,
    sentence_similarity.KIND,
    image_text_to_text.KIND,
    zero_shot.KIND,
)
"""The first that an architecture can do is its default; a new task is its own file and a line."""

TASKS = {kind.name: kind for kind in KINDS}
