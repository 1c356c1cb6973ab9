"""The losses of a merge's parents and output, or the reason why there are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.sources import side_files_from
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import BUILTIN, EvalData, source_of
from mergekit_geo.errors import DataError, GeoError
from mergekit_geo.evaluation.failures import failure
from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.losses import DataEntry, DifferenceEntry, LossEntry

if TYPE_CHECKING:
    from torch.nn import Module

    from mergekit_geo.config.data import Data
    from mergekit_geo.evaluation.evaluation import Sample
    from mergekit_geo.evaluation.objective import Objective
    from mergekit_geo.evaluation.study import Study
    from mergekit_geo.tasks.losses import Losses

LossRole = Literal["parent", "output", "reference"]
OUTPUT = "output"
LARGEST_EXPONENT = 700.0
TURNED_OFF = "evaluation was turned off"


@dataclass(frozen=True)
class LossPlan:
    """What is going to be measured.

    Attributes:
        objective: The examples; None if nothing is measured.
        sample: What they were made of, if from data.
        reason: Why nothing is measured.
    """

    objective: Objective | None = None
    sample: Sample | None = None
    reason: str = ""


@dataclass(frozen=True)
class LossReport:
    """What was measured.

    Attributes:
        losses: Per model, the output last.
        differences: Output minus each parent.
        data: On what.
        device: Where the models ran.
        dtype: Of the arithmetic.
        attention: The attention backend.
        warnings: What was left out.
        barriers: Between the parents.
        no_control: Why the ends of a fitted path were not trained further; empty if they were, or
            there is none.
        reason: Why nothing was measured; empty if it was.
        fails: Whether the command fails for that reason.
    """

    losses: list[LossEntry] = field(default_factory=list)
    differences: list[DifferenceEntry] = field(default_factory=list)
    data: DataEntry | None = None
    device: str | None = None
    dtype: str | None = None
    attention: str | None = None
    warnings: list[str] = field(default_factory=list)
    barriers: list[BarrierEntry] = field(default_factory=list)
    no_control: str = ""
    reason: str = ""
    fails: bool = False


def plan_losses(
    checkpoints: Sequence[Checkpoint],
    data: Data,
    compute: Compute,
    tokenizer_of: int | None = None,
) -> LossPlan:
    """Plan, before anything is merged, whether loss can be measured and on what.

    Args:
        checkpoints: What is measured.
        data: As asked for.
        compute: How models are run.
        tokenizer_of: Position of the one whose tokenizer is used; if None, that of the first, or of
            an adapter on it that brings one.

    Raises:
        DataError: The data that was asked for is missing or unusable.
    """
    source = source_of(data)
    settings = source.as_settings
    if settings is None:
        return LossPlan(source.as_objective, reason=TURNED_OFF if source.is_nothing else "")
    try:
        donor = side_files_from(checkpoints) if tokenizer_of is None else checkpoints[tokenizer_of]
        return _planned(_folder_of(donor), checkpoints[0].config, settings, compute)
    except GeoError as error:
        if settings.is_named:
            raise
        return LossPlan(reason=str(error))
    except Exception as error:  # a tokenizer's own code raises anything
        found = failure(error, settings)
        if found.fails:
            raise DataError(found.reason, where=settings.origin) from error
        return LossPlan(reason=found.reason)


def _folder_of(checkpoint: Checkpoint) -> Path:
    if checkpoint.folder is None:
        raise DataError(
            "a model in memory comes without its tokenizer",
            where=checkpoint.name,
            remedy="save it with its tokenizer, or measure with a FunctionObjective",
        )
    return checkpoint.folder


def _planned(folder: Path, config: Config, data: EvalData, compute: Compute) -> LossPlan:
    from mergekit_geo.evaluation.evaluation import prepare
    from mergekit_geo.tasks.table import TASKS, task_name

    name = task_name(config, data.task)
    if data.origin == BUILTIN and not TASKS[name].reads_plain_text:
        raise DataError(
            f"{name} cannot be measured on the built-in text",
            remedy="give held-out data with --data",
        )
    sample = prepare(data, folder, config, compute)
    return LossPlan(sample.objective, sample)


def report_losses(
    study: Study,
    models: Sequence[tuple[str, LossRole, Losses]],
    module: Module,
    warnings: Sequence[str],
    *,
    half: Literal["", "report"] = "",
    barriers: Sequence[BarrierEntry] = (),
    no_control: str = "",
) -> LossReport:
    """Convert losses to a report's entries.

    Args:
        study: What was measured on.
        models: Name, role and losses of each, the output last; it is compared with all others.
        module: Any of them, for where it ran.
        warnings: What was left out.
        half: Whether these are the losses on the report half alone.
        barriers: Between the parents.
        no_control: Why the ends of a fitted path were not trained further.
    """
    *others, (_, _, output) = models
    documents = len(set(output.document.tolist()))
    place = run_with(module)
    return LossReport(
        losses=[loss_entry(name, role, found, study.sample) for name, role, found in models],
        differences=[difference(name, output, found) for name, _, found in others],
        data=data_entry(study, output, half),
        device=place[0],
        dtype=place[1],
        attention=place[2],
        warnings=[*warnings, *_too_few(documents)],
        barriers=list(barriers),
        no_control=no_control,
    )


def data_entry(study: Study, losses: Losses, half: Literal["", "report"] = "") -> DataEntry:
    """What loss was measured on."""
    documents = len(set(losses.document.tolist()))
    return source_entry(
        study,
        documents=documents,
        examples=len(losses.loss),
        tokens=int(losses.weight.sum()),
        half=half,
    )


def source_entry(
    study: Study,
    *,
    documents: int,
    examples: int,
    tokens: int,
    half: Literal["", "report"] = "",
) -> DataEntry:
    """The report's entry on the data, from counts alone."""
    settings, sample = source_of(study.data).as_settings, study.sample
    shared = {"documents": documents, "examples": examples, "tokens": tokens, "half": half}
    if sample is None or settings is None:
        return DataEntry(
            source="a function of the caller's",
            digest="",
            available=examples,
            seed=0,
            seq_len=0,
            **shared,
        )
    from mergekit_geo.data.load import is_on_hub

    task = sample.objective.task
    return DataEntry(
        source=settings.origin,
        digest=sample.digest,
        available=sample.available,
        seq_len=max(example.size for example in sample.objective.kept),
        seed=settings.seed,
        task=task.name,
        unit=task.unit,
        metric=task.metric,
        notes=list(sample.notes),
        repository=settings.origin if is_on_hub(settings) else None,
        **shared,
    )


def loss_entry(name: str, role: LossRole, losses: Losses, sample: Sample | None) -> LossEntry:
    """One model's loss, its metric, and how sure they are."""
    from mergekit_geo.evaluation.statistics import mean_loss, mean_score
    from mergekit_geo.tasks.table import TASKS

    mean, score = mean_loss(losses), mean_score(losses)
    found = mean.estimate
    task = sample.objective.task.name if sample else ""
    has = task in TASKS and TASKS[task].has_perplexity
    perplexity = math.exp(min(mean.value, LARGEST_EXPONENT)) if has else None
    return LossEntry(
        model=name,
        role=role,
        loss=mean.value,
        low=found.low,
        high=found.high,
        perplexity=perplexity,
        metric=losses.accuracy,
        metric_low=score and score.low,
        metric_high=score and score.high,
        macro_f1=losses.answers.macro_f1 if losses.answers else None,
    )


def run_with(module: Module) -> tuple[str, str, str]:
    """Device, dtype and attention backend of a module."""
    parameter = next(module.parameters())
    config = getattr(module, "config", None)
    dtype = str(parameter.dtype).removeprefix("torch.")
    return str(parameter.device), dtype, getattr(config, "_attn_implementation", None) or ""


def _too_few(documents: int) -> list[str]:
    from mergekit_geo.evaluation.statistics import FEWEST_DOCUMENTS

    if documents >= FEWEST_DOCUMENTS:
        return []
    return [
        f"{documents} documents are too few for an interval: give at least {FEWEST_DOCUMENTS} "
        "(blank lines separate them in a .txt file)"
    ]


def difference(name: str, output: Losses, other: Losses) -> DifferenceEntry:
    """The output's loss minus another's, and its metric, on the same examples."""
    from mergekit_geo.evaluation.macro_f1 import paired_f1
    from mergekit_geo.evaluation.statistics import paired_difference, paired_score

    score, f1 = paired_score(output, other), paired_f1(output, other)
    mean = paired_difference(output, other)
    found = mean.estimate
    return DifferenceEntry(
        model=name,
        value=mean.value,
        low=found.low,
        high=found.high,
        significant=found.is_significant,
        detectable=found.detectable,
        metric=score,
        macro_f1=f1,
    )
