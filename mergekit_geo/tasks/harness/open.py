"""Opening `lm-eval:TASK`: its documents as rows, and the task that measures them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.config.data import EvalData
from mergekit_geo.config.measures import Compute
from mergekit_geo.data.rows import Rows
from mergekit_geo.errors import DataError
from mergekit_geo.tasks.harness.asked import ask, notes_on
from mergekit_geo.tasks.harness.encoder import Encoder
from mergekit_geo.tasks.harness.generation import Generations
from mergekit_geo.tasks.harness.loading import load_tasks
from mergekit_geo.tasks.harness.questions import Questions
from mergekit_geo.tasks.harness.rolling import RollingTexts
from mergekit_geo.tasks.kind import TaskInputs, with_defaults
from mergekit_geo.tasks.table import task_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mergekit_geo.tasks.harness.asked import Asked
    from mergekit_geo.tasks.task import Task

ABLE = ("causal-lm", "seq2seq-lm")
KINDS: dict[str, Callable[[Sequence[Asked], Encoder, int], Task]] = {
    "loglikelihood_rolling": RollingTexts,
    "generate_until": Generations,
}


def open_benchmark(
    data: EvalData, folder: Path, config: Config, compute: Compute
) -> tuple[Rows, Task]:
    """The documents of tasks of lm-evaluation-harness, and the task that measures them.

    Args:
        data: Names the tasks.
        folder: Of a checkpoint, with its tokenizer.
        config: The parsed `config.json`.
        compute: Whether code that comes with a checkpoint or a task is run.

    Raises:
        ArgumentError: No such task, or one that is refused.
        DataError: The architecture writes no text, or the task's data cannot be had.
    """
    if (name := task_name(config, data.task)) not in ABLE:
        raise DataError(
            f"tasks of lm-eval measure language models that write text, not {name}",
            where=data.origin,
        )
    full = with_defaults(config)
    inputs = TaskInputs(folder, full, data, compute)
    tokenizer = inputs.tokenizer()
    asked = ask(load_tasks(data, compute), data)
    encoder = Encoder(tokenizer, full, data.seq_len)
    kind = KINDS.get(asked[0].task.OUTPUT_TYPE, Questions)
    task = kind(asked, encoder, inputs.vocabulary(tokenizer))
    cells, names = [one.doc for one in asked], [one.name for one in asked]
    return Rows(cells, names, data.origin, notes_on(asked, data)), task
