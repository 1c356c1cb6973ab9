"""What commands have in common: models, data, a way to run them, an output."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import MISSING, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mergekit_geo.config.data import PANEL, EvalData, sets_of, source_of
from mergekit_geo.config.flags import flags, settings_of
from mergekit_geo.config.measures import SHARPNESS, Compute
from mergekit_geo.config.model_data import model_data
from mergekit_geo.config.option import Option, argument, check, group, like, option, own_options
from mergekit_geo.config.output import OutputConfig
from mergekit_geo.config.reshape import ReshapeConfig
from mergekit_geo.progress import Progress, Silent

if TYPE_CHECKING:
    from mergekit_geo.config.data import Data
    from mergekit_geo.config.model_data import TrainData
    from mergekit_geo.config.sets import DataSource

SHARPNESS_TEXT = (
    "Sharpness of parents and output that is measured; full adds the trace, the spectrum and "
    "adaptive measures."
)
SETS_FILES = (".yml", ".yaml")
NO_EVAL = Option("Measure neither loss nor sharpness.", "--no-eval", panel=PANEL)


NO_MODELS = "Missing argument 'MODEL...', or --checkpoints"


def models(default: Any = MISSING, *, unset: str = "") -> Any:
    """The models of a command.

    Args:
        default: Where none are named.
        unset: What happens then.
    """
    return argument(
        "Model folders, safetensors files, Hub ids (org/name, org/name@revision), a folder in one "
        "of these (org/name:unet), or BASE+ADAPTER.",
        "MODEL...",
        default,
        unset,
    )


def needs_models(given: Collection[str]) -> Option | None:
    """What is to be said where neither models nor checkpoints are given; None where one is.

    Args:
        given: Names of the options on the command line.
    """
    return None if {"models", "checkpoints"} & set(given) else Option(NO_MODELS)


def checkpoints(text: str) -> Any:
    """The checkpoints of a training, in place of the models.

    Args:
        text: What is done with them.
    """
    return option(
        (), f"{text} Folders, or a pattern such as 'run/checkpoint-*'; sorted by step. Takes all "
        "words up to the next option.", metavar="MODEL...", recorded=False, unset="none",
        greedy=True,
    )  # fmt: skip


def out(text: str, *, unset: str = "") -> Any:
    """The folder that a command writes; Python may leave it out.

    Args:
        text: What is written.
        unset: What happens without it on a command line, which has to give it otherwise.
    """
    return option(
        None, text, "--out", short="-o", metavar="DIR", required=not unset, recorded=False,
        unset=unset,
    )  # fmt: skip


def command_line(asked: Spec) -> str:
    """The command of these options, as a shell takes it.

    Example:
        >>> from mergekit_geo.specs.merges import SoupSpec
        >>> command_line(SoupSpec(["a b", "c"], "out", weights=[0.5, 0.5]))
        "geo-merge soup 'a b' c -o out --weights=0.5,0.5"
    """
    return shlex.join(["geo-merge", asked.command, *flags(asked)])


def repeated(asked: Measuring) -> str:
    """The command that does the same again; empty where an option has no words.

    That is so with models in memory, and with functions in place of data.

    Example:
        >>> from mergekit_geo.specs.measures import SharpnessSpec
        >>> repeated(SharpnessSpec(["a"], "out")), repeated(SharpnessSpec([{}], "out"))
        ('geo-merge sharpness a -o out', '')
    """
    named = [
        one for one in own_options(type(asked)) if one.option.positional or one.kind == "texts"
    ]
    values = [getattr(asked, one.path[0]) for one in named]
    several = [value if isinstance(value, list | tuple) else [value] for value in values]
    sources = [source_of(asked.data), source_of(asked.train_data)]
    spoken = all(source.spoken or source.is_nothing for source in sources)
    named_by = (one for those in several for one in those)
    spoken &= all(isinstance(one, str | Path | float | None) for one in named_by)
    return command_line(asked) if spoken else ""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a command is asked.

    Attributes:
        command: Its name.
        examples: Command lines that `--help` and the documentation end with.
        essential: Names of the options that `--help` shows first, besides those without a panel.
        work: Where its function is: module and name.
        again: What continues it after an interrupt.
        in_processes: Whether several processes can share its work.
        keywords: Group of options that a call in Python takes by their own names.
        unmet_code: Exit code where the result does not hold what was asked of it.
        given: Names of the options that stand on the command line.
        progress: Told what is going on.
    """

    command: ClassVar[str]
    work: ClassVar[str]
    examples: ClassVar[tuple[str, ...]] = ()
    essential: ClassVar[tuple[str, ...]] = ()
    again: ClassVar[str] = "the same command continues"
    in_processes: ClassVar[bool] = False

    keywords: ClassVar[str] = ""
    unmet_code: ClassVar[int] = 3

    given: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    progress: Progress | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def called(cls, *args: Any, **kwargs: Any) -> Self:
        """The options of a call in Python."""
        return cls(*args, **kwargs)

    @classmethod
    def topics(cls) -> dict[str, list[tuple[str, str]]]:
        """What help explains after the options: names and texts by heading."""
        return {}

    @property
    def told(self) -> Progress:
        """Who is told what is going on."""
        return self.progress or Silent()

    @property
    def target(self) -> Path | None:
        """The folder that is written; None keeps the result in memory."""
        out = getattr(self, "out", None)
        return None if out is None else Path(out)

    def settings(self) -> dict[str, Any]:
        """The options as the report has them."""
        return settings_of(self)

    @classmethod
    def misused(cls, given: Collection[str]) -> Option | None:
        """The option that is missing on a command line, with what to say of it."""
        return None

    def unmet(self, result: Any) -> str:
        """What the result does not hold, though it was asked for; empty if it holds all."""
        return ""


@dataclass(frozen=True, kw_only=True)
class Measuring(Spec):
    """Loss is measured."""

    data: Data = group(EvalData)
    train_data: Data = option(
        None, "Training data for fitted paths and BatchNorm statistics, read as the evaluation "
        "data is.", panel=PANEL, unset="none",
    )  # fmt: skip
    compute: Compute = group(Compute)

    def __post_init__(self) -> None:
        super().__post_init__()
        # frozen, and this is its making
        if self.data is not None:
            object.__setattr__(self, "data", read_sets(source_of(self.data)))
        read_as = source_of(self.data).as_settings or EvalData()
        object.__setattr__(self, "train_data", self.trained_on(read_as))

    def trained_on(self, read_as: EvalData) -> Data:
        """The training data, read as the evaluation data is."""
        given = self.train_data
        return read_as.training(given) if isinstance(given, str) else given


def read_sets(data: DataSource) -> DataSource:
    """The sets that a file lists, where data is one; all else as it is.

    Raises:
        DataError: It is no such file.
    """
    if not isinstance(data, EvalData) or data.benchmarks:
        return data
    if not data.origin.lower().endswith(SETS_FILES):
        return data
    from mergekit_geo.config.sets_file import sets_in_file  # loads pydantic

    return sets_in_file(data)


@dataclass(frozen=True, kw_only=True)
class Reporting(Measuring):
    """What is measured is written to a folder, if one is named."""

    in_processes: ClassVar[bool] = True

    overwrite: bool = like(OutputConfig, "overwrite", recorded=False)


@dataclass(frozen=True, kw_only=True)
class Writing(Measuring):
    """A model is written, and measured beside what it came from."""

    data: Data = group(EvalData, off=NO_EVAL)
    output: OutputConfig = group(OutputConfig)
    sharpness: str = option("quick", SHARPNESS_TEXT, panel=PANEL, choices=SHARPNESS)

    def naming(self, names: Sequence[str]) -> Self:
        """Replace the models by these names, where the command names models."""
        return replace(self, models=tuple(names))  # type: ignore[call-arg]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_requirement()

    def check_requirement(self) -> None:
        """Refuse to require something of a set that is not measured.

        Raises:
            ArgumentError: It names those that are.
        """
        if (wanted := self.output.requirement) is not None:
            names = [one.name for one in sets_of(self.data) if not one.data.is_nothing]
            wanted.require_known(names)

    def unmet(self, result: Any) -> str:
        """`--require`, where the output is worse or nobody can tell."""
        wanted = self.output.require
        if wanted is None or result.holds(wanted):
            return ""
        lost = ", ".join(f"{name}: {word}" for name, word in result.lost(wanted).items())
        return f"--require {wanted}" + (f" ({lost})" if lost else "")


@dataclass(frozen=True, kw_only=True)
class Merging(Writing):
    """Models are merged, which are made to fit one another first where that is asked for."""

    reshape: ReshapeConfig = group(ReshapeConfig)


@dataclass(frozen=True, kw_only=True)
class TrainedByModel(Merging):
    """Training data may be that of single models, which some methods need."""

    train_data: TrainData = option(
        None, "Training data for methods that need data of the models and for BatchNorm "
        "statistics, read as the evaluation data is; given several times, as MODEL=SOURCE, it is "
        "each model's own, and a source without MODEL that of all others.", panel=PANEL,
        metavar="[MODEL=]SOURCE", unset="none",
    )  # fmt: skip

    def trained_on(self, read_as: EvalData) -> Data:
        """The training data, of all models or by model."""
        found: Data = model_data(self.train_data, read_as)
        return found
