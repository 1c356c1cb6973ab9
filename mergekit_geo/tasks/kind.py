"""A kind of task: its name, the architectures that can do it, and how it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import CONFIG_MAPPING

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.loading import load_config
from mergekit_geo.config.data import EvalData
from mergekit_geo.config.measures import Compute
from mergekit_geo.errors import DataError
from mergekit_geo.modules.load import load_tokenizer, quiet_transformers
from mergekit_geo.tasks.task import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


DEFAULT_CONTEXT = 512


@dataclass(frozen=True)
class TaskInputs:
    """Everything that a task is made from.

    Attributes:
        folder: Of the checkpoint, with its tokenizer or image processor.
        config: The parsed configuration, with transformers' defaults.
        data: Names of columns, seed, window length.
        compute: Whether code that comes with a checkpoint is run.
        note: What the report is to say of the task.
        per_byte: Whether its loss is to be counted per byte of text.
    """

    folder: Path
    config: Config
    data: EvalData
    compute: Compute
    note: str = ""
    per_byte: bool = False

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer of the checkpoint.

        Raises:
            DataError: There is none.
        """
        found = load_tokenizer(self.folder, self.compute)
        if found is None:
            raise DataError("no tokenizer beside the weights", where=str(self.folder))
        return found

    def seq_len(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """Most tokens at once: what was asked for, else what model and tokenizer are for."""
        found = context_length(self.config, self.data.seq_len)
        return found if self.data.seq_len else min(found, tokenizer.model_max_length)

    def vocabulary(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """Number of logits for each token."""
        own = self.config.get("vocab_size")
        return int(
            own or (self.config.get("text_config") or {}).get("vocab_size") or len(tokenizer)
        )


def _none(config: Config) -> bool:
    return False


@dataclass(frozen=True)
class TaskKind:
    """A task, and the architectures that can do it.

    Attributes:
        name: As `--task` has it.
        table: transformers' own table of their classes.
        auto: The class in `auto_map` of a checkpoint that brings its code.
        make: Constructor.
        reads_plain_text: Whether text without labels is data for it.
        has_perplexity: Whether the exponential of its loss is the models' perplexity.
        counts_bytes: Whether its loss can be counted per byte of text (`CountsBytes`).
        also: Whether an architecture that is not in the table can do it.
        by_group: Whether examples of a document are measured against one another: samples are of
            whole documents.
    """

    name: str
    table: str
    auto: str
    make: Callable[[TaskInputs], Task]
    reads_plain_text: bool = False
    has_perplexity: bool = False
    counts_bytes: bool = False
    also: Callable[[Config], bool] = _none
    by_group: bool = False


def with_defaults(config: Config) -> Config:
    """A `config.json` may leave out what is transformers' default, such as a padding id."""
    if config.get("model_type") not in CONFIG_MAPPING:
        return config
    with quiet_transformers():
        found: Config = load_config(config).to_dict()
    return found


def context_length(config: Config, asked: int | None) -> int:
    """Tokens in a window: what was asked for, else the model's context up to 512.

    Raises:
        DataError: More was asked for than the model can take.
    """
    most = config.get("max_position_embeddings") or config.get("n_positions")
    if asked is None:
        return min(DEFAULT_CONTEXT, most or DEFAULT_CONTEXT)
    if most is not None and asked > most:
        raise DataError(
            f"windows of {asked} tokens are longer than the model's context of {most}",
            remedy=f"--seq-len {most} or less",
        )
    return asked
