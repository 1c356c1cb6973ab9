"""Options that several commands share: same flag, same meaning, everywhere.

A group of options is a dataclass; `takes` gives a command all options of a group, and hands it the
filled dataclass as `options`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import BUILTIN, TRAIN, EvalData
from mergekit_geo.errors import ArgumentError
from mergekit_geo.outputs.config import OutputConfig

DATA, COMPUTE, OUTPUT, TALK = "Evaluation data", "Compute", "Output", "Talking"


class Dtype(StrEnum):
    """Dtypes of the output."""

    FLOAT64 = "float64"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class ComputeDtype(StrEnum):
    """Dtypes of the arithmetic."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Sharpness(StrEnum):
    """How much of the sharpness report is made."""

    OFF = "off"
    QUICK = "quick"
    FULL = "full"


class Level(StrEnum):
    """How much sharpness is measured."""

    QUICK = "quick"
    FULL = "full"


class Kind(StrEnum):
    """Kinds of path that are fitted."""

    BEZIER = "bezier"
    POLYGON = "polygon"
    NEB = "neb"


class Optimizer(StrEnum):
    """What trains."""

    ADAMW = "adamw"
    SGD = "sgd"


class Pick(StrEnum):
    """Points of a path."""

    BEST = "best"
    MIDPOINT = "midpoint"
    MEAN = "mean"
    FLATTEST = "flattest"


class Method(StrEnum):
    """How a soup's weights come about."""

    UNIFORM = "uniform"
    WEIGHTED = "weighted"
    GREEDY = "greedy"
    LEARNED = "learned"


class Granularity(StrEnum):
    """What shares a learned coefficient."""

    MODEL = "model"
    LAYER = "layer"
    TENSOR = "tensor"


class LossOn(StrEnum):
    """Which tokens of a conversation count."""

    ASSISTANT = "assistant"
    ALL = "all"


class AnchorsInMemory(StrEnum):
    """Whether parents are kept in memory while a model moves between them."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Gate(StrEnum):
    """What an output must hold, or the command exits 3."""

    NOT_WORSE = "not-worse"


class Ascent(StrEnum):
    """Choices of `--ascent`: which gradient SAM ascends."""

    AUTO = "auto"
    PER_REPLICA = "per-replica"
    SYNCHRONISED = "synchronised"


class OnAntipodal(StrEnum):
    """What to do with opposite tensors."""

    ERROR = "error"
    LINEAR = "linear"


def _option(*names: str, panel: str, text: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel)


Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...", help="Folders, org/name, org/name@revision, or BASE+ADAPTER."
    ),
]
OneModel = Annotated[
    str, typer.Argument(metavar="MODEL", help="A folder, org/name, or org/name@revision.")
]
Along = Annotated[
    str | None,
    typer.Option(
        help="Take a point of a path between two models: linear, slerp, a fitted path's DIR, or, "
        "with --train-data, bezier, polygon or neb. More models join one at a time."
    ),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder to write.", metavar="DIR")]
ReportOut = Annotated[
    Path | None, typer.Option("-o", "--out", help="Folder for report and pictures.", metavar="DIR")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output.")]
Processes = Annotated[int, typer.Option(help="Share the examples among so many processes.")]


@dataclass(frozen=True)
class Talk:
    """How a command talks."""

    json: Annotated[bool, _option("--json", panel=TALK, text="One JSON document on stdout.")] = (
        False
    )
    quiet: Annotated[bool, _option("--quiet", panel=TALK, text="No progress, no remarks.")] = False
    debug: Annotated[bool, _option("--debug", panel=TALK, text="Tracebacks of errors.")] = False


@dataclass(frozen=True)
class Measuring(Talk):
    """What loss is measured on, and how models are run."""

    source: Annotated[
        str,
        _option(
            "--data",
            panel=DATA,
            text=f"{BUILTIN}; a .txt, .jsonl, .json, .csv or .parquet file; a folder saved by "
            "datasets; or a dataset on the Hub.",
        ),
    ] = ""
    data_config: Annotated[
        str | None, _option("--data-config", panel=DATA, text="Configuration of a Hub dataset.")
    ] = None
    split: Annotated[
        str | None, _option("--split", panel=DATA, text="Of a dataset; validation by default.")
    ] = None
    task: Annotated[
        str | None,
        _option("--task", panel=DATA, text="Such as causal-lm; the architecture's by default."),
    ] = None
    text_column: Annotated[
        str | None, _option("--text-column", panel=DATA, text="Of text or messages; guessed.")
    ] = None
    label_column: Annotated[
        str | None, _option("--label-column", panel=DATA, text="Of labels or targets; guessed.")
    ] = None
    image_column: Annotated[
        str | None, _option("--image-column", panel=DATA, text="Of images; guessed.")
    ] = None
    loss_on: Annotated[
        LossOn, _option("--loss-on", panel=DATA, text="Which tokens of a conversation count.")
    ] = LossOn.ASSISTANT
    max_examples: Annotated[
        int | None, _option("--max-examples", panel=DATA, text="At most so many examples.")
    ] = None
    seq_len: Annotated[
        int | None,
        _option("--seq-len", panel=DATA, text="Tokens in a window; the context, up to 512."),
    ] = None
    batch_size: Annotated[
        int | None, _option("--batch-size", panel=DATA, text="Examples at once.")
    ] = None
    seed: Annotated[
        int, _option("--seed", panel=DATA, text="Of training, samples, halves, intervals.")
    ] = 0
    train_data: Annotated[
        str | None,
        _option("--train-data", panel=DATA, text="Training data: fine-tuning, paths, BatchNorm."),
    ] = None
    device: Annotated[
        str | None, _option("--device", panel=COMPUTE, text="Such as cpu or cuda.")
    ] = None
    compute_dtype: Annotated[
        ComputeDtype | None, _option("--compute-dtype", panel=COMPUTE, text="Of the evaluation.")
    ] = None
    budget: Annotated[
        float, _option("--budget", panel=COMPUTE, text="Minutes of evaluation; 0 is no limit.")
    ] = 10.0
    anchors_in_memory: Annotated[
        AnchorsInMemory,
        _option("--anchors-in-memory", panel=COMPUTE, text="Keep parents in memory on a path."),
    ] = AnchorsInMemory.AUTO
    trust_remote_code: Annotated[
        bool,
        _option("--trust-remote-code", panel=COMPUTE, text="Run code that comes with a model."),
    ] = False

    def settings(self) -> dict[str, Any]:
        """Convert the flags to the keyword arguments of the public functions.

        Raises:
            ArgumentError: An invalid setting.
        """
        return {"data": self.data(), "train_data": self.training(), "compute": self.compute()}

    def training(self) -> EvalData | None:
        """Training data: read as evaluation data is, from the split that is for training."""
        if not self.train_data:
            return None
        return replace(self.data(), source=self.train_data, split=TRAIN, max_examples=None)

    def data(self) -> EvalData:
        """Evaluation data."""
        return EvalData(
            source=self.source,
            config=self.data_config,
            split=self.split,
            task=self.task,
            text_column=self.text_column,
            label_column=self.label_column,
            image_column=self.image_column,
            loss_on=self.loss_on.value,
            max_examples=self.max_examples,
            seq_len=self.seq_len,
            batch_size=self.batch_size,
            seed=self.seed,
        )

    def compute(self) -> Compute:
        """How models are run."""
        return Compute(
            device=self.device,
            dtype=self.compute_dtype and self.compute_dtype.value,
            budget=self.budget,
            trust_remote_code=self.trust_remote_code,
            anchors_in_memory=self.anchors_in_memory.value,
        )


@dataclass(frozen=True)
class Writing(Measuring):
    """How a model is written and measured."""

    dtype: Annotated[
        Dtype | None,
        _option("--dtype", panel=OUTPUT, text="Of the output; the first model's by default."),
    ] = None
    max_shard_size: Annotated[
        str, _option("--max-shard-size", panel=OUTPUT, text="Such as 5GB or 500MB.")
    ] = "5GB"
    overwrite: Annotated[
        bool,
        _option("--overwrite", panel=OUTPUT, text="Replace an output when the new one is whole."),
    ] = False
    no_fsync: Annotated[
        bool, _option("--no-fsync", panel=OUTPUT, text="Leave flushing to the system: faster.")
    ] = False
    no_eval: Annotated[bool, _option("--no-eval", panel=DATA, text="Measure no loss.")] = False
    sharpness: Annotated[
        Sharpness, _option("--sharpness", panel=DATA, text="Of parents and output: how much.")
    ] = Sharpness.QUICK
    require: Annotated[
        Gate | None,
        _option("--require", panel=OUTPUT, text="not-worse: exit 3 if worse than a parent."),
    ] = None
    push_to: Annotated[
        str | None,
        _option("--push-to", panel=OUTPUT, text="Repository on the Hub, once the output is whole."),
    ] = None
    private: Annotated[
        bool, _option("--private", panel=OUTPUT, text="Make that repository private.")
    ] = False

    def settings(self) -> dict[str, Any]:
        """Convert the flags to the keyword arguments of the public functions.

        Raises:
            ArgumentError: An invalid setting.
        """
        output = OutputConfig(
            dtype=self.dtype and self.dtype.value,
            max_shard_size=self.max_shard_size,
            overwrite=self.overwrite,
            fsync=not self.no_fsync,
            push_to=self.push_to,
            private=self.private,
            require=self.require and self.require.value,
        )
        found = super().settings() | {"output": output, "sharpness": self.sharpness.value}
        return found | {"data": None} if self.no_eval else found


@dataclass(frozen=True)
class Ending(Writing):
    """How a merge is written and measured."""

    allow_nonfinite: Annotated[
        bool, _option("--allow-nonfinite", panel=OUTPUT, text="Merge over NaN and infinity.")
    ] = False

    def settings(self) -> dict[str, Any]:
        """Convert the flags to the keyword arguments of the public functions.

        Raises:
            ArgumentError: An invalid setting.
        """
        found = super().settings()
        device = self.device or "cpu"
        merging = replace(found["output"], allow_nonfinite=self.allow_nonfinite, device=device)
        return found | {"output": merging}


def takes(group: type[Talk]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a group; it gets them as one argument, `options`."""
    hints = get_type_hints(group, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]  # fmt: skip

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in signature.parameters.values()
            if parameter.name != "options"
        ]

        @wraps(command)
        def run(**given: Any) -> None:
            _refuse_unmeant(given)
            options = group(**{field.name: given.pop(field.name) for field in fields(group)})
            command(options=options, **given)

        run.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
        return run

    return decorate


def _refuse_unmeant(given: Mapping[str, Any]) -> None:
    """Infinities, what is no number, and names that no report can hold.

    Raises:
        typer.BadParameter: One is among what was given.
    """
    for name, value in given.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, float) and not math.isfinite(one):
                raise typer.BadParameter(f"--{name.replace('_', '-')}: expected a finite number")
            if isinstance(one, str | Path) and not str(one).isascii():
                _refuse_no_text(str(one))


def _refuse_no_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter(f"not UTF-8: {text!a}") from None


def parse_weights(text: str | None) -> list[float] | None:
    """Weights written like `.5,.3,.2`.

    Raises:
        ArgumentError: One is not a number.

    Example:
        >>> parse_weights(".5, .3,.2")
        [0.5, 0.3, 0.2]
    """
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ArgumentError(
            f"weights must be numbers, found {text!r}", remedy="write them like .5,.3,.2"
        ) from error
