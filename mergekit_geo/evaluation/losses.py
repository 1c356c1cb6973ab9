"""Losses as entries of a report, with their intervals and the differences between models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from mergekit_geo.config.data import source_of
from mergekit_geo.data.load import is_on_hub
from mergekit_geo.evaluation.macro_f1 import paired_f1
from mergekit_geo.evaluation.plan import LossReport
from mergekit_geo.evaluation.statistics import (
    FEWEST_DOCUMENTS,
    mean_loss,
    mean_margin,
    mean_score,
    paired_difference,
    paired_score,
)
from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.losses import DataEntry, DifferenceEntry, LossEntry
from mergekit_geo.tasks.task import longest

if TYPE_CHECKING:
    from torch.nn import Module

    from mergekit_geo.evaluation.sample import Sample
    from mergekit_geo.evaluation.study import Study
    from mergekit_geo.tasks.losses import Losses

LossRole = Literal["parent", "output", "reference"]
NamedLosses: TypeAlias = "list[tuple[str, LossRole, Losses]]"
"""Name, role and losses of models."""

OUTPUT = "output"
LARGEST_EXPONENT = 700.0


def report_losses(
    study: Study,
    models: NamedLosses,
    place: tuple[str, str, str],
    warnings: Sequence[str],
    *,
    measured: Losses | None = None,
    half: Literal["", "report"] = "",
    barriers: Sequence[BarrierEntry] = (),
    no_control: str = "",
) -> LossReport:
    """Convert losses to a report's entries.

    Args:
        study: What was measured on.
        models: Name, role and losses of each, the output last; it is compared with all others.
        place: Device, dtype and attention backend, as `run_with` gives them.
        warnings: What was left out.
        measured: Losses of the output example by example, where `models` has them by document.
        half: Whether these are the losses on the report half alone.
        barriers: Between the parents.
        no_control: Why the ends of a fitted path were not trained further.
    """
    *others, (_, _, output) = models
    documents = len(set(output.document.tolist()))
    return LossReport(
        losses=[loss_entry(name, role, found, study.sample) for name, role, found in models],
        differences=[difference(name, output, found) for name, _, found in others],
        data=data_entry(study, measured or output, half),
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
        tokens=round(losses.weight.sum()),
        half=half,
    )


def source_entry(
    study: Study, *, documents: int, examples: int, tokens: int, half: Literal["", "report"] = ""
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
    task = sample.objective.task
    return DataEntry(
        source=settings.origin,
        digest=sample.digest,
        available=sample.available,
        seq_len=longest(task, sample.objective.kept),
        seed=settings.seed,
        task=task.name,
        unit=task.unit,
        metric=task.metric,
        notes=list(sample.notes),
        repository=settings.origin if is_on_hub(settings) else getattr(task, "repository", None),
        **shared,
    )


def loss_entry(name: str, role: LossRole, losses: Losses, sample: Sample | None) -> LossEntry:
    """One model's loss, its metric, and how sure they are."""
    mean, score = mean_loss(losses), mean_score(losses)
    found = mean.estimate
    has = sample is not None and sample.has_perplexity
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
        margin=mean_margin(losses),
    )


def run_with(module: Module) -> tuple[str, str, str]:
    """Device, dtype and attention backend of a module."""
    parameter = next(module.parameters())
    config = getattr(module, "config", None)
    dtype = str(parameter.dtype).removeprefix("torch.")
    return str(parameter.device), dtype, getattr(config, "_attn_implementation", None) or ""


def _too_few(documents: int) -> list[str]:
    if documents >= FEWEST_DOCUMENTS:
        return []
    return [
        f"{documents} documents are too few for an interval: give at least {FEWEST_DOCUMENTS} "
        "(blank lines separate them in a .txt file)"
    ]


def difference(name: str, output: Losses, other: Losses) -> DifferenceEntry:
    """The output's loss minus another's, and its metric, on the same examples."""
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
