"""The losses of a merge's parents and output, or the reason why there are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.objectives.settings import Compute, EvalData
from mergekit_geo.objectives.text import Document, load_documents
from mergekit_geo.progress import Progress
from mergekit_geo.reports.schema import DataEntry, DifferenceEntry, LossEntry

if TYPE_CHECKING:
    from mergekit_geo.objectives.causal_lm import Losses
    from mergekit_geo.objectives.evaluation import Evaluation, Source

OUTPUT = "output"
LARGEST_EXPONENT = 700.0


@dataclass(frozen=True)
class LossPlan:
    """What is going to be measured.

    Attributes:
        documents: The texts; empty if nothing is measured.
        reason: Why nothing is measured.
    """

    documents: list[Document] = field(default_factory=list)
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
        reason: Why nothing was measured; empty if it was.
    """

    losses: list[LossEntry] = field(default_factory=list)
    differences: list[DifferenceEntry] = field(default_factory=list)
    data: DataEntry | None = None
    device: str | None = None
    dtype: str | None = None
    attention: str | None = None
    warnings: list[str] = field(default_factory=list)
    reason: str = ""


def plan_losses(checkpoints: Sequence[Checkpoint], data: EvalData | None) -> LossPlan:
    """Find out, before anything is merged, whether loss can be measured and on what.

    Raises:
        DataError: The data that was asked for is missing or unusable.
    """
    if data is None:
        return LossPlan(reason="evaluation was turned off")
    if any(checkpoint.folder is None for checkpoint in checkpoints):
        return LossPlan(reason="a model in memory comes without its tokenizer")
    config = checkpoints[0].config
    documents = load_documents(data)
    from mergekit_geo.objectives.evaluation import context_length
    from mergekit_geo.objectives.models import is_causal_lm

    if not is_causal_lm(config):
        kind = (config.get("architectures") or ["a checkpoint without config.json"])[0]
        return LossPlan(reason=f"loss is measured for causal language models, and this is {kind}")
    context_length(config, data.seq_len)
    return LossPlan(documents)


def measure_losses(
    plan: LossPlan,
    parents: Sequence[Checkpoint],
    output: Source,
    data: EvalData | None,
    compute: Compute,
    progress: Progress,
) -> LossReport:
    """Measure parents and output on the same examples.

    A failure is a reason in the report, not an error: the merged weights are there already.
    """
    if data is None or plan.reason:
        return LossReport(reason=plan.reason)
    try:
        return _measure(plan, parents, output, data, compute, progress)
    except Exception as error:  # a model's and a tokenizer's own code raise anything
        return LossReport(reason=f"{type(error).__name__}: {error}")


def _measure(
    plan: LossPlan,
    parents: Sequence[Checkpoint],
    output: Source,
    data: EvalData,
    compute: Compute,
    progress: Progress,
) -> LossReport:
    from mergekit_geo.objectives.evaluation import Evaluator

    folders = [parent.folder for parent in parents if parent.folder is not None]
    evaluator = Evaluator(
        plan.documents,
        folders[0],
        parents[0].config,
        data,
        compute,
        models=len(folders) + 1,
        progress=progress,
    )
    for parent, folder in zip(parents, folders, strict=True):
        evaluator.measure(parent.name, folder)
    evaluator.measure(OUTPUT, output)
    return _report(evaluator.result(), [parent.name for parent in parents], data)


def _report(evaluation: Evaluation, parents: list[str], data: EvalData) -> LossReport:
    *before, after = evaluation.losses
    return LossReport(
        losses=[
            *(_loss(n, x, data.seed) for n, x in zip(parents, before, strict=True)),
            _loss(OUTPUT, after, data.seed, is_output=True),
        ],
        differences=[
            _difference(name, after, x, data.seed) for name, x in zip(parents, before, strict=True)
        ],
        data=DataEntry(
            source=data.source,
            digest=evaluation.data_digest,
            documents=evaluation.documents,
            examples=evaluation.examples,
            available=evaluation.available,
            tokens=evaluation.tokens,
            seq_len=evaluation.seq_len,
            seed=data.seed,
        ),
        device=evaluation.device,
        dtype=evaluation.dtype,
        attention=evaluation.attention,
        warnings=[*evaluation.warnings, *_too_few(evaluation.documents)],
    )


def _too_few(documents: int) -> list[str]:
    from mergekit_geo.objectives.statistics import FEWEST_DOCUMENTS

    if documents >= FEWEST_DOCUMENTS:
        return []
    return [
        f"{documents} documents are too few for an interval: give at least {FEWEST_DOCUMENTS} "
        "(blank lines separate them in a .txt file)"
    ]


def _loss(name: str, losses: Losses, seed: int, *, is_output: bool = False) -> LossEntry:
    from mergekit_geo.objectives.statistics import mean_loss

    found = mean_loss(losses, seed)
    return LossEntry(
        model=name,
        role="output" if is_output else "parent",
        loss=found.value,
        low=found.low,
        high=found.high,
        perplexity=math.exp(min(found.value, LARGEST_EXPONENT)),
    )


def _difference(name: str, output: Losses, parent: Losses, seed: int) -> DifferenceEntry:
    from mergekit_geo.objectives.statistics import paired_difference

    found = paired_difference(output, parent, seed)
    return DifferenceEntry(
        model=name,
        value=found.value,
        low=found.low,
        high=found.high,
        significant=found.is_significant,
    )
