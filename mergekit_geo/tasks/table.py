"""Which task a model is for, and how it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.loading import load_config
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import EvalData
from mergekit_geo.data.context import context_length
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.modules.load import load_tokenizer, quiet_transformers
from mergekit_geo.tasks.causal_lm import CausalLM
from mergekit_geo.tasks.image_classification import ImageClassification, load_processor
from mergekit_geo.tasks.masked_lm import MaskedLM
from mergekit_geo.tasks.seq2seq import Seq2SeqLM
from mergekit_geo.tasks.sequence_classification import SequenceClassification
from mergekit_geo.tasks.task import Task
from mergekit_geo.tasks.token_classification import TokenClassification
from mergekit_geo.tasks.token_inputs import padding_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


MULTIMODAL = ("MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES")
"""transformers' tables of models that read more than text."""

TEXT_ALONE = "the model reads more than text; its loss is that of text alone"


@dataclass(frozen=True)
class TaskInputs:
    """Everything that a task is made from.

    Attributes:
        folder: Of the checkpoint, with its tokenizer or image processor.
        config: The parsed configuration, with transformers' defaults.
        data: Names of columns, seed, window length.
        compute: Whether code that comes with a checkpoint is run.
    """

    folder: Path
    config: Config
    data: EvalData
    compute: Compute

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


@dataclass(frozen=True)
class TaskKind:
    """A task, and the architectures that can do it.

    Attributes:
        table: transformers' own of their classes.
        auto: The class in `auto_map` of a checkpoint that brings its code.
        make: Constructor.
    """

    table: str
    auto: str
    make: Callable[[TaskInputs], Task]


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
    able = able or (["causal-lm"] if reads_text_alone(config) else [])
    names = ", ".join(config.get("architectures") or []) or "a model without architectures"
    if not able:
        raise DataError(
            f"no task goes with {names}; those there are: {', '.join(TASKS)}",
            remedy="from Python, measure with a loss function of your own",
        )
    if asked is not None and asked not in able:
        raise ArgumentError(f"{names} cannot do {asked}; it can do {', '.join(able)}")
    return asked or able[0]


def make_task(name: str, folder: Path, config: Config, data: EvalData, compute: Compute) -> Task:
    """A task for the models of one architecture.

    Args:
        name: As `task_name` gives it.
        folder: Of a checkpoint, with its tokenizer or image processor.
        config: The parsed `config.json`.
        data: Names of columns, seed, window length.
        compute: Whether code that comes with a checkpoint is run.

    Raises:
        DataError: No tokenizer, one that lacks what the task needs, or windows longer than the
            model takes.
    """
    return TASKS[name].make(TaskInputs(folder, _with_defaults(config), data, compute))


def reads_text_alone(config: Config) -> bool:
    """Whether this is a decoder of text, pictures or sound, of which text alone can be measured."""
    if any(_can(config, kind) for kind in TASKS.values()):
        return False
    able = any(_is_listed(config, table) for table in MULTIMODAL)
    return able and not _with_defaults(config).get("is_encoder_decoder")


def _can(config: Config, kind: TaskKind) -> bool:
    return _is_listed(config, kind.table) or kind.auto in (config.get("auto_map") or {})


def _is_listed(config: Config, table: str) -> bool:
    from transformers.models.auto import modeling_auto

    own = (config.get("architectures") or [""])[0]
    return own in set(_flat(getattr(modeling_auto, table, {}).values()))


def _flat(names: object) -> Iterator[str]:
    """All class names of an entry: some models have several for one task."""
    if isinstance(names, str):
        yield names
    elif hasattr(names, "__iter__"):
        for part in names:
            yield from _flat(part)


def _with_defaults(config: Config) -> Config:
    """A `config.json` may leave out what is transformers' default, such as a padding id."""
    from transformers import CONFIG_MAPPING

    if config.get("model_type") not in CONFIG_MAPPING:
        return config
    with quiet_transformers():
        found: Config = load_config(config).to_dict()
    return found


def _causal_lm(parts: TaskInputs) -> Task:
    tokenizer = parts.tokenizer()
    length = context_length(parts.config, parts.data.seq_len)
    note = TEXT_ALONE if reads_text_alone(parts.config) else ""
    return CausalLM(tokenizer, length, parts.vocabulary(tokenizer), parts.data, note)


def _masked_lm(parts: TaskInputs) -> Task:
    tokenizer = parts.tokenizer()
    length, vocabulary = parts.seq_len(tokenizer), parts.vocabulary(tokenizer)
    padding = padding_id(parts.config, tokenizer) or 0
    return MaskedLM(tokenizer, length, vocabulary, parts.data, padding)


def _seq2seq_lm(parts: TaskInputs) -> Task:
    tokenizer = parts.tokenizer()
    length, vocabulary = parts.seq_len(tokenizer), parts.vocabulary(tokenizer)
    padding = padding_id(parts.config, tokenizer) or 0
    return Seq2SeqLM(tokenizer, length, vocabulary, parts.data, padding)


def _sequence_classification(parts: TaskInputs) -> Task:
    tokenizer = parts.tokenizer()
    return SequenceClassification(tokenizer, parts.seq_len(tokenizer), parts.config, parts.data)


def _token_classification(parts: TaskInputs) -> Task:
    tokenizer = parts.tokenizer()
    return TokenClassification(tokenizer, parts.seq_len(tokenizer), parts.config, parts.data)


def _image_classification(parts: TaskInputs) -> Task:
    processor, note = load_processor(parts.folder, trusted=parts.compute.trust_remote_code)
    return ImageClassification(parts.config, parts.data, processor, note)


TASKS = {
    "causal-lm": TaskKind("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "AutoModelForCausalLM", _causal_lm),
    "seq2seq-lm": TaskKind(
        "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", "AutoModelForSeq2SeqLM", _seq2seq_lm
    ),
    "masked-lm": TaskKind("MODEL_FOR_MASKED_LM_MAPPING_NAMES", "AutoModelForMaskedLM", _masked_lm),
    "sequence-classification": TaskKind(
        "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
        "AutoModelForSequenceClassification",
        _sequence_classification,
    ),
    "token-classification": TaskKind(
        "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
        "AutoModelForTokenClassification",
        _token_classification,
    ),
    "image-classification": TaskKind(
        "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
        "AutoModelForImageClassification",
        _image_classification,
    ),
}
"""Tasks by name; the first that an architecture can do is its default."""
