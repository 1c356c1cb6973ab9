"""Data made into what a model is measured, fitted or fine-tuned on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.config.data import BUILTINS, OF_BENCHMARKS, EvalData, source_of
from mergekit_geo.config.measures import Compute
from mergekit_geo.data.beginnings import beginnings
from mergekit_geo.data.load import load_rows, refuse_training
from mergekit_geo.data.rows import Rows, filled
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.evaluation.drawing import draw
from mergekit_geo.evaluation.example import Understood
from mergekit_geo.evaluation.objective import Objective, TaskObjective, digest, document_keys
from mergekit_geo.extras import require
from mergekit_geo.tasks.entropy import classifier
from mergekit_geo.tasks.kind import context_length
from mergekit_geo.tasks.per_byte import BYTE
from mergekit_geo.tasks.preference import with_preferences
from mergekit_geo.tasks.table import TASKS, make_task, task_for, task_name
from mergekit_geo.tasks.task import Example, Task

if TYPE_CHECKING:
    from mergekit_geo.config.data import Data


CHARACTERS = 3
"""Characters of a text for each token of a window: fewer than in English, so that all fit."""

SHORTEST = 500
"""Characters of a text that count in any case."""


@dataclass(frozen=True)
class Cut:
    """What lets the losses of models that cut the same text differently be compared.

    Attributes:
        per_byte: Count loss per byte of text: their tokenizers differ.
        whole: Draw whole documents: their windows differ, by tokenizer or by context.
        characters: Of all texts together, about how many count; None for all.
    """

    per_byte: bool = False
    whole: bool = False
    characters: int | None = None

    @classmethod
    def of_texts(cls, data: EvalData, config: Config, *, per_byte: bool) -> Cut:
        """Whole texts, shortened so that all of them can be measured.

        Args:
            data: How much of it.
            config: Of the architecture whose windows are meant.
            per_byte: Count loss per byte.
        """
        window, most = CHARACTERS * context_length(config, data.seq_len), data.max_examples
        return cls(per_byte, True, None if most is None else most * window)

    def shortened(self, rows: Rows, columns: Sequence[str]) -> Rows:
        """Rows of one column of text whose texts share the characters that count evenly."""
        if self.characters is None or len(columns) != 1:
            return rows
        return beginnings(rows, columns[0], max(SHORTEST, self.characters // len(rows.cells)))


@dataclass(frozen=True)
class Sample:
    """An objective, and what it was made of.

    Attributes:
        objective: On the examples that are measured.
        available: How many examples there were.
        understood: How the rows were read.
        notes: What was guessed about the data.
        cut: What allows for models that cut the text otherwise.
        rows: The documents.
    """

    objective: TaskObjective
    available: int
    understood: Understood
    notes: tuple[str, ...] = ()
    cut: Cut = Cut()
    rows: Rows | None = field(default=None, repr=False, compare=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the documents."""
        return digest(self.objective.documents)

    @property
    def has_perplexity(self) -> bool:
        """Whether the exponential of its loss is the models' perplexity."""
        task = self.objective.task
        kind = TASKS.get(task.name)
        return kind is not None and kind.has_perplexity and task.unit != BYTE


def prepare(
    data: EvalData,
    folder: Path,
    config: Config,
    compute: Compute,
    cut: Cut = Cut(),
    *,
    labels: bool = True,
) -> Sample:
    """Read data, and make of it what the architecture is measured on.

    Args:
        data: Which data, and how much of it.
        folder: With the tokenizer or image processor.
        config: Of the architecture.
        compute: Whether code that comes with a model may run.
        cut: What allows for models that cut the text otherwise.
        labels: Whether labels are read; without, each example has some label or other.

    Raises:
        DataError: The data is missing or unusable, or the architecture has no such task.
        UnsupportedError: Labels are not to be read, and the task gives no classes.
    """
    rows, task = _read(data, folder, config, compute, cut)
    if not labels:
        rows = classifier(task, data.origin).unlabelled(rows)
    columns = task.columns(rows)
    every, rows = rows, cut.shortened(filled(rows, columns), columns)
    examples = task.examples(rows)
    groups = task.name in TASKS and TASKS[task.name].by_group
    if not groups:
        _note_left_out(rows, examples)
    whole = cut.whole or groups
    kept = draw(examples, data.max_examples, data.seed, whole=whole)
    size = data.batch_size or task.batch_size(kept)
    objective = TaskObjective(task, kept, document_keys(rows), size, whole)
    understood = Understood.of(task, every, replace(rows, notes=[]))
    return Sample(objective, len(examples), understood, tuple(rows.notes), cut, rows)


def prepare_beside(
    other: Sample, data: EvalData, folder: Path, config: Config, compute: Compute
) -> Sample:
    """All documents of another sample's data, whole, as one model reads them.

    Args:
        other: Of the same data, as another model reads it.
        data: Which data.
        folder: With the model's own tokenizer or image processor.
        config: Of its architecture.
        compute: Whether code that comes with it may run.

    Raises:
        DataError: The data is unusable for this model, or has changed in the meantime.
    """
    every, cut = data.replaced(max_examples=None), replace(other.cut, whole=True)
    own = prepare(every, folder, config, compute, cut)
    if own.digest != other.digest:
        raise DataError("the data has changed since it was read", where=data.origin)
    return own


def _read(
    data: EvalData, folder: Path, config: Config, compute: Compute, cut: Cut
) -> tuple[Rows, Task]:
    if data.benchmarks:
        require("lm_eval", "a task of lm-eval", where=data.origin, kind=DataError)
        try:
            from mergekit_geo.tasks.harness.open import open_benchmark  # seconds to load
        except ImportError as error:
            raise DataError(
                f"this lm_eval cannot be used: {error}",
                where=data.origin,
                remedy="pip install 'lm_eval>=0.4.13'",
            ) from error
        return open_benchmark(data, folder, config, compute)
    _refuse_settings_of_benchmarks(data)
    rows = load_rows(data)
    name = task_for(rows, config, data)
    task = make_task(name, folder, config, data, compute, per_byte=cut.per_byte)
    return rows, with_preferences(task, rows)


def _refuse_settings_of_benchmarks(data: EvalData) -> None:
    given = [name for name in OF_BENCHMARKS if getattr(data, name) is not None]
    if given:
        flag = f"--{given[0].replace('_', '-')}"
        raise ArgumentError(
            f"{flag} is for data of lm-eval:TASK",
            where=data.origin,
            remedy="--max-examples takes a sample of any data",
        )


def _note_left_out(rows: Rows, examples: Sequence[Example]) -> None:
    """Rows of which a task makes no example, such as conversations without an answer."""
    if left_out := len(rows.cells) - len({example.document for example in examples}):
        verb = "row holds" if left_out == 1 else "rows hold"
        rows.notes.append(f"{left_out} {verb} nothing that counts: left out")


def held_out(
    data: EvalData, folder: Path, config: Config, compute: Compute, cut: Cut = Cut()
) -> Sample:
    """What models are measured on.

    Raises:
        DataError: As `prepare`; or no loss of this architecture can be had on the built-in text.
    """
    name = task_name(config, data.task)
    if data.origin in BUILTINS and not TASKS[name].reads_plain_text:
        raise DataError(
            f"{name} cannot be measured on the built-in text",
            remedy="give held-out data with --data",
        )
    return prepare(data, folder, config, compute, cut)


def training_objective(train_data: Data, donor: Checkpoint, compute: Compute) -> Objective:
    """The objective of fitting and fine-tuning, on training data.

    Raises:
        DataError: It is missing or unusable.
    """
    source = source_of(train_data)
    if source.as_objective is not None:
        found: Objective = source.as_objective
        return found
    assert source.as_settings is not None, "no training data"
    if source.as_settings.benchmarks:
        refuse_training(source.as_settings)
    if donor.folder is None:
        what = "a single file" if donor.is_stored else "a model in memory"
        raise DataError(
            f"{what} comes without its tokenizer",
            where=donor.name if donor.is_stored else "",
            remedy="name its folder, or give a FunctionObjective of training batches",
        )
    return prepare(source.as_settings, donor.folder, donor.config, compute).objective
