"""Which data loss is measured on, or weights are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from mergekit_geo.config.docstrings import described
from mergekit_geo.config.flags import settings_of
from mergekit_geo.config.option import check, option
from mergekit_geo.config.sets import (
    DataSource,
    EvalSet,
    EvalSets,
    benchmarks_in,
    is_named,
    named,
    one_by_one,
    sets_named,
)

BUILTIN, PYTHON_SOURCE = "builtin:python-docs", "builtin:python-source"
BUILTINS = {
    BUILTIN: "CPython's documentation",
    PYTHON_SOURCE: "the source code of Python's standard library",
}
"""What each built-in text is; the first is the default."""

OF_BENCHMARKS = ("include_path", "num_fewshot", "limit")
"""Settings that only tasks of lm-evaluation-harness have."""

TRAIN = "train"
LOSS_ON = ("assistant", "all")
PANEL = "Evaluation data"
GUESSED = "guessed from usual names"


@described
@dataclass(frozen=True)
class EvalData:
    """Which data loss is measured on.

    Of a dataset with several splits `validation`, `test` or `train` is read where none is named; of
    a built-in text `train` is what is not held out. Columns that are not named are guessed from
    the usual names.

    Raises:
        ArgumentError: A number below its least, or a word that is not admitted.

    Example:
        >>> EvalData("held-out.jsonl", text_column="body", max_examples=500).origin
        'held-out.jsonl'
    """

    source: str | Sequence[str] = option(
        "",
        "Held-out data on which the loss is measured: a .txt, .jsonl, .json, .csv or .parquet "
        "file, a folder saved by datasets, a dataset on the Hub, a text that comes with Python "
        f"({' or '.join(BUILTINS)}), or benchmarks as lm-eval:TASK[,TASK...]. Given several times, "
        "as NAME=DATA, it is several sets; a .yml file lists sets with options of their own.",
        "--data", panel=PANEL, metavar="[NAME=]DATA", unset=f"{BUILTIN}, for language models",
    )  # fmt: skip
    text_column: str | None = option(
        None, "Column of the text, messages or words.", panel=PANEL, unset=GUESSED
    )
    max_examples: int | None = option(
        None, "Measure on a random sample of at most this many examples.", panel=PANEL, least=1,
        unset="all that --budget allows",
    )  # fmt: skip
    seq_len: int | None = option(
        None, "Window length in tokens.", panel=PANEL, least=2,
        unset="the model's context length, at most 512",
    )  # fmt: skip
    batch_size: int | None = option(
        None, "Examples per batch of the evaluation.", panel=PANEL, least=1, unset="by their length"
    )
    seed: int = option(
        0, "Random seed of training, sampling, the selection and report halves, and intervals.",
        panel=PANEL, least=0,
    )  # fmt: skip
    config: str | None = option(
        None, "Configuration (subset) of a Hub dataset.", "--data-config", panel=PANEL,
        unset="the dataset's default",
    )  # fmt: skip
    split: str | None = option(
        None, "Split of a dataset.", panel=PANEL, unset="validation, test or train, as available"
    )
    task: str | None = option(
        None, "Task whose loss is measured: causal-lm, masked-lm, seq2seq-lm, "
        "sequence-classification, token-classification, image-classification, "
        "sentence-similarity, image-text-to-text or zero-shot-image-classification.", panel=PANEL,
        unset="that of the architecture",
    )  # fmt: skip
    label_column: str | None = option(
        None, "Column of the labels, targets or completions.", panel=PANEL, unset=GUESSED
    )
    image_column: str | None = option(None, "Column of the images.", panel=PANEL, unset=GUESSED)
    loss_on: str = option(
        "assistant", "Tokens of a conversation that count: the assistant's, or all.", panel=PANEL,
        choices=LOSS_ON,
    )  # fmt: skip
    include_path: str | None = option(
        None, "Folder of your own task files (YAML) for lm-eval:TASK.", panel=PANEL, metavar="DIR",
        unset="lm-evaluation-harness' own tasks",
    )  # fmt: skip
    num_fewshot: int | None = option(
        None, "Solved examples before each question of lm-eval:TASK.", panel=PANEL, least=0,
        unset="as the task says",
    )  # fmt: skip
    limit: int | None = option(
        None, "Take the first so many documents of each lm-eval:TASK, as lm-eval's own --limit "
        "does.", panel=PANEL, least=1, unset="all",
    )  # fmt: skip
    show_example: bool = option(
        False, "Tell what was understood of the data, with one example.", panel=PANEL,
        recorded=False,
    )  # fmt: skip
    weight: float = option(1.0, "What the set counts beside other sets.", "", recorded=False)

    as_objective: ClassVar[None] = None
    is_nothing: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check(self)

    @property
    def spoken(self) -> EvalData:
        """These settings, which a command line can say."""
        return self

    @property
    def as_settings(self) -> EvalData:
        """These settings, which an objective has not."""
        return self

    @property
    def is_default(self) -> bool:
        """Whether it is the built-in text, and nobody named it."""
        return not self.source

    @property
    def is_named(self) -> bool:
        """Whether somebody said what it is, rather than to take the built-in text by default."""
        columns = self.text_column or self.label_column or self.image_column
        others = any(getattr(self, name) is not None for name in OF_BENCHMARKS)
        return others or bool(
            self.source or self.task or self.seq_len or self.split or self.config or columns
        )

    def settings(self) -> dict[str, Any]:
        """The settings as a JSON value."""
        return settings_of(self)

    def replaced(self, **changes: Any) -> EvalData:
        """Copy with other settings."""
        return replace(self, **changes)

    @property
    def origin(self) -> str:
        """Where the data is from, by default or by name."""
        return str(self.source) or BUILTIN

    @property
    def benchmarks(self) -> list[str]:
        """Names of tasks of lm-evaluation-harness; none where the source is anything else.

        Example:
            >>> EvalData("lm-eval:piqa, arc_easy").benchmarks
            ['piqa', 'arc_easy']
        """
        return benchmarks_in(self.origin)

    def training(self, source: str) -> EvalData:
        """Training data that is read as this is, from the split that is for training.

        Example:
            >>> EvalData("held_out.jsonl", max_examples=9).training("all.jsonl").max_examples
        """
        nothing: dict[str, Any] = dict.fromkeys(("max_examples", *OF_BENCHMARKS))
        return replace(self, source=source, split=TRAIN, **nothing)


Data = DataSource | str | Mapping[str, DataSource | str] | None
"""What a call says: `EvalData`, its source, a `FunctionObjective`, a mapping of several of these by
name, or None for no data."""


class NoData:
    """Null object for data: there is nothing to measure or train on."""

    seed = 0
    as_settings = as_objective = spoken = None
    is_nothing = True
    is_default = is_named = False

    def settings(self) -> None:
        """No settings."""

    def replaced(self, **changes: Any) -> NoData:
        """Return this object: it has no settings."""
        return self


NO_DATA = NoData()


def source_of(data: Data) -> DataSource:
    """What was given, the data of a source, several sets by name, or no data for None.

    Example:
        >>> source_of(None).is_nothing, source_of("held-out.jsonl").origin
        (True, 'held-out.jsonl')
        >>> source_of(EvalData(["code=a.jsonl", "b.jsonl"], seq_len=64)).names
        ('code', 'b')
    """
    if data is None:
        return NO_DATA
    if isinstance(data, str):
        data = EvalData(data)
    if isinstance(data, Mapping):
        return _by_name({name: _of_one_name(one) for name, one in data.items()})
    return _split(data) if isinstance(data, EvalData) else data


def sets_of(data: Data) -> tuple[EvalSet, ...]:
    """The sets of data, each by itself; one that nobody named is called after its source.

    Example:
        >>> [one.name for one in sets_of({"code": "a.jsonl", "chat": "b.jsonl"})]
        ['code', 'chat']
        >>> [one.name for one in sets_of("runs/held.jsonl")]
        ['held']
    """
    source = source_of(data)
    if isinstance(source, EvalSets):
        return source.sets
    settings = source.as_settings
    return (EvalSet("data" if settings is None else named(settings.origin)[0], source),)


def _of_one_name(data: DataSource | str) -> DataSource:
    """One set's source, of which several benchmarks stay together."""
    found = EvalData(data) if isinstance(data, str) else data
    return found if isinstance(found, EvalData) and found.benchmarks else source_of(found)


def _split(data: EvalData) -> EvalData | EvalSets:
    """The sets of settings that name several sources, or give one a name."""
    given = [data.source] if isinstance(data.source, str) else list(data.source)
    sources = [source for one in given for source in one_by_one(one)]
    if len(sources) == 1 and not is_named(sources[0]):
        return data if data.source == sources[0] else replace(data, source=sources[0])
    plain = data
    if any(benchmarks_in(source) for _, source in map(named, sources)):
        plain = data.replaced(**dict.fromkeys(OF_BENCHMARKS))  # no other set has these
    pairs = [
        (name, replace(data if benchmarks_in(source) else plain, source=source))
        for name, source in map(named, sources)
    ]
    return sets_named(pairs, said=replace(data, source=tuple(sources)))


def _by_name(data: Mapping[str, DataSource]) -> EvalSets:
    """Sets of a mapping; a command line can say them where no setting but the source differs."""
    found = [one for one in data.values() if isinstance(one, EvalData)]
    shared = {replace(one, source="") for one in found}
    if len(found) < len(data) or len(shared) != 1:
        return sets_named(data.items())
    words = tuple(f"{name}={one.origin}" for name, one in zip(data, found, strict=True))
    return sets_named(data.items(), said=replace(found[0], source=words))
