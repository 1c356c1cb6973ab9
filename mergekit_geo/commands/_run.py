"""A command from its options to its result: the one place in which outputs open and appear.

A command's function takes the options and gives the work that is left when all is refused that can
be refused without it. Here the output is opened, the work done, the report put together of what it
found, the output published, and pushed where that was asked for.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.origin import provenance
from mergekit_geo.clock import MINUTES, one_clock
from mergekit_geo.commands._push import push_output
from mergekit_geo.commands.result import Result
from mergekit_geo.config.docstrings import texts_of, with_arguments
from mergekit_geo.config.option import GROUP
from mergekit_geo.config.output import OutputConfig
from mergekit_geo.errors import GeoError
from mergekit_geo.outputs.kind import Kind
from mergekit_geo.outputs.output import Output
from mergekit_geo.processes import broadcast, is_main_process
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.records.model import ModelEntry
from mergekit_geo.records.report import ErrorEntry, NotMeasured, Report
from mergekit_geo.specs.spec import Spec, Writing
from mergekit_geo.views.verdict import verdict_of

Arguments = ParamSpec("Arguments")
Asked = TypeVar("Asked", bound=Spec)

INNER = {"given"}
"""Fields that are no parameters."""

Fill = Callable[[Report, Path], object]


@dataclass(frozen=True)
class Findings:
    """What a command found, and what its report says beside it.

    Attributes:
        record: What was found: the `result` of the report.
        models: That the report names.
        place: Device, dtype and attention that models were run with.
        settings: What is recorded beside the options, or in place of one.
        data: What loss was measured on.
        warnings: What the user should know.
        not_measured: What the report could hold and does not.
        left_out: Files of the donor that the output does not have.
        error: Why the command's answer is no; the report holds what was found all the same.
        output: The folder that the report is about, where it is not the one that is written.
        again: The command line that does it again; empty where none can.
        fill: Given report and unpublished folder, writes what else belongs there.
        published: Given the folder that has appeared, does what needs it where it stays.
        kept: What the result has beside its report, by its field.
        earlier: The report of an earlier run, which had only to publish its output.
    """

    record: Any = None
    models: Sequence[ModelEntry] = ()
    place: tuple[str | None, str | None, str | None] = (None, None, None)
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: DataEntry | None = None
    warnings: Sequence[str] = ()
    not_measured: Sequence[NotMeasured] = ()
    left_out: Sequence[str] = ()
    error: GeoError | None = None
    output: str | None = None
    again: str = ""
    fill: Fill = lambda report, folder: None
    published: Callable[[Path], object] = lambda folder: None
    kept: Mapping[str, Any] = field(default_factory=dict)
    earlier: Report | None = None


@dataclass(frozen=True)
class Work:
    """What is left of a command when all is refused that can be without it.

    Attributes:
        asked: The options, with what follows from them filled in.
        do: Does it, given the output.
        kind: Of the output; None where the command writes none.
        inputs: Models that the output may not touch; `do` refuses those that it opens itself.
    """

    asked: Spec
    do: Callable[[Output], Findings]
    kind: Kind | None = None
    inputs: Sequence[Checkpoint] = ()


def command(
    spec: Callable[Arguments, Asked],
) -> Callable[[Callable[[Asked], Work]], Callable[Arguments, Result]]:
    """Make a public function of one that gives the work of a command's options.

    Its parameters are those of the options' dataclass, for type checkers, too; with `of` it takes
    the value itself. All parts of it spend the budget of its `compute` together.

    Args:
        spec: The dataclass.
    """

    def decorate(work: Callable[[Asked], Work]) -> Callable[Arguments, Result]:
        def of(asked: Asked) -> Result:
            with one_clock(getattr(getattr(asked, "compute", None), "budget", MINUTES)):
                return carry_out(work(asked))

        @wraps(work)
        def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            return of(spec.called(*args, **kwargs))  # type: ignore[attr-defined]

        assert isinstance(spec, type)
        call.__signature__ = _signature(spec)  # type: ignore[attr-defined]
        call.__doc__ = _documented(spec, work)
        call.of = of  # type: ignore[attr-defined]
        return call

    return decorate


def carry_out(work: Work) -> Result:
    """Do the work of a command, and publish what came of it.

    Raises:
        GeoError: With the reason and the remedy; nothing is half-written.
    """
    asked, began = work.asked, time.time()
    out = None if work.kind is None else asked.target
    config = _output_config(asked)
    with Output.of(out, work.kind or Kind(), config, work.inputs) as output:
        result = _published(asked, work.do(output), began, output)
    if result.out is None or not isinstance(asked, Writing):
        return result
    if is_main_process():
        holds = config.require is None or result.holds(config.require)
        result = replace(result, report=push_output(result.report, config, asked.told, holds=holds))
    return broadcast(result)


def _output_config(asked: Spec) -> OutputConfig:
    if isinstance(asked, Writing):
        return asked.output
    return OutputConfig(overwrite=getattr(asked, "overwrite", False))


def _published(asked: Spec, found: Findings, began: float, output: Output) -> Result:
    if found.earlier is not None:
        output.publish()
        return Result(found.earlier, output.out)
    report = report_of(asked, found, began)
    output.publish(report, lambda folder: found.fill(report, folder))
    if output.out is not None:
        found.published(output.out)
    return Result(report, output.out, **found.kept)


def report_of(asked: Spec, found: Findings, began: float) -> Report:
    """The report of a command.

    Args:
        asked: Its options.
        found: What it found.
        began: When, in seconds since 1970.
    """
    report = Report(
        command=asked.command,
        output=found.output or (str(asked.target) if asked.target else None),
        models=list(found.models),
        settings={**asked.settings(), **found.settings},
        data=found.data,
        result=found.record,
        warnings=list(found.warnings),
        not_measured=list(found.not_measured),
        left_out=list(found.left_out),
        provenance=provenance(began, *found.place, found.again),
    )
    more: dict[str, Any] = {"verdict": verdict_of(report)}
    if found.error is not None:
        more |= {"status": "error", "error": ErrorEntry.of(found.error)}
    return report.model_copy(update=more)


@dataclass(frozen=True)
class Default:
    """Default settings in a signature, where all of their fields would hide the rest."""

    kind: type

    def __repr__(self) -> str:
        return f"{self.kind.__name__}()"


def _signature(spec: type[Spec]) -> inspect.Signature:
    """The parameters of a call: own ones first, those of the group `spec.keywords` last."""
    found = inspect.signature(spec).parameters
    names = [name for name in found if name not in {*INNER, spec.keywords}]
    shared = inspect.signature(Writing).parameters
    names.sort(key=lambda name: (found[name].kind, name in shared))
    shown = [_short(found[name]) for name in names]
    return inspect.Signature([*shown, *_keywords(spec)], return_annotation="Result")


def _short(found: inspect.Parameter) -> inspect.Parameter:
    is_settings = is_dataclass(found.default) and not isinstance(found.default, type)
    return found.replace(default=Default(type(found.default))) if is_settings else found


def _keywords(spec: type[Spec]) -> list[inspect.Parameter]:
    """Parameters that a group of the options gives."""
    if not spec.keywords:
        return []
    group = spec.__dataclass_fields__[spec.keywords].metadata[GROUP]
    own = inspect.signature(group).parameters.values()
    return [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]


def _documented(spec: type[Spec], work: Callable[..., Any]) -> str:
    """The function's text, and what its parameters are."""
    texts = {**texts_of(spec), "progress": "Told what is going on."}
    if spec.keywords:
        del texts[spec.keywords]
        texts |= texts_of(spec.__dataclass_fields__[spec.keywords].metadata[GROUP])
    return with_arguments(
        work.__doc__ or "", {name: texts[name] for name in _signature(spec).parameters}
    )
