"""Sharpness of several models on the same examples, within a budget told in advance."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.content import checkpoint_digest
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.measures import SharpnessRadii
from mergekit_geo.curvature.levels import GROUPS, Level
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.curvature.suite import Survey
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.cache import MeasurementCache, NoCache, RecordCache
from mergekit_geo.evaluation.cache_key import cache_key
from mergekit_geo.evaluation.objective import Objective, TaskObjective
from mergekit_geo.evaluation.plan import SharpnessReport
from mergekit_geo.evaluation.split import chooses
from mergekit_geo.evaluation.statistics import estimate
from mergekit_geo.evaluation.study import Study
from mergekit_geo.modules.open import open_module
from mergekit_geo.processes import broadcast, is_main_process, world
from mergekit_geo.progress import Progress, expect
from mergekit_geo.records.curvature import QuotientsEntry, SharpnessEntry
from mergekit_geo.records.losses import DifferenceEntry, Estimate

FEWEST_EXAMPLES = 8


@dataclass(frozen=True)
class Subject:
    """A model to measure.

    Attributes:
        name: What the user calls it.
        role: What it is in the report.
        load: Gives its module, in evaluation mode and at least float32.
        digest: Of its weights; empty where nothing tells whether they have changed.
    """

    name: str
    role: Literal["parent", "output", "model"]
    load: Callable[[], Module]
    digest: str


@dataclass(frozen=True)
class CurvatureSample:
    """What sharpness is measured on.

    Attributes:
        measured: Examples of the report half, or all where it is too small.
        held_out: As many others; None where there are none.
    """

    measured: Objective
    held_out: Objective | None = None

    @property
    def count(self) -> int:
        """Examples; batches of a function of the caller's."""
        if isinstance(self.measured, TaskObjective):
            return len(self.measured.kept)
        return len(self.measured.batches())


@dataclass(frozen=True)
class Surveyed:
    """One model's measures.

    Attributes:
        entry: As the report has them.
        quotients: v^T H v of each example at the eigenvector of λ_max; None where that was not
            kept.
    """

    entry: SharpnessEntry
    quotients: QuotientsEntry | None


def subject(checkpoint: Checkpoint, role: Literal["parent", "model"], compute: Compute) -> Subject:
    """A checkpoint whose data is here, to be measured in float32 whatever it is stored in."""
    wide = replace(compute, dtype="float32")
    return Subject(
        checkpoint.name,
        role,
        lambda: open_module(checkpoint, wide).float(),
        checkpoint_digest(checkpoint),
    )


def measure_sharpness(
    study: Study,
    subjects: Sequence[Subject],
    level: Level,
    radii: SharpnessRadii,
    *,
    most: int | None = None,
) -> SharpnessReport:
    """Measure models one after another.

    Args:
        study: All examples that there are, and how models are run.
        subjects: The models.
        level: How much is measured.
        radii: How far the loss is looked at.
        most: Examples of the sample; the level's number if None.

    Raises:
        DataError: Too few examples, or the budget holds none of it.
    """
    objective, seed = study.plan.objective, study.seed
    assert objective is not None
    warnings: list[str] = []
    wide = replace(study.compute, dtype="float32")
    sample = make_sample(objective, most or level.examples, seed)

    def work(models: Sequence[Subject], *more: object) -> list[object]:
        return cache_key([s.digest for s in models], study.sample, study.data, wide, *more)

    budget = study.compute.budget
    settled = MeasurementCache(work(subjects, str(level), budget, sample.count), warnings.append)
    runner = _Runner(subjects, level, radii, study, work, warnings.append)
    earlier = settled.settled(sample.count) if is_main_process() else None
    left = broadcast(study.clock.left)
    count = broadcast(earlier) or runner.affordable(sample, left)
    settled.settle(count)
    if count < sample.count:
        warnings.append(
            f"sharpness measured on {count} of {sample.count} examples to stay within the budget; "
            "--budget 0 measures all"
        )
        sample = make_sample(objective, count, seed)
    return SharpnessReport(runner.entries(sample), warnings)


def make_sample(objective: Objective, most: int, seed: int) -> CurvatureSample:
    """Examples of the report half, in small batches; a function of the caller's as it is.

    Args:
        objective: All examples that there are.
        most: How many are taken.
        seed: Of the halves and of the sample.

    Raises:
        DataError: Too few examples.
    """
    if not isinstance(objective, TaskObjective):
        return CurvatureSample(objective)
    other = [chooses(objective.documents[e.document], seed) for e in objective.kept]
    report = [i for i, chosen in enumerate(other) if not chosen]
    selection = [i for i, chosen in enumerate(other) if chosen]
    if min(len(report), len(selection)) < FEWEST_EXAMPLES:
        return CurvatureSample(_drawn(objective, range(len(other)), most, seed))
    return CurvatureSample(
        _drawn(objective, report, most, seed), _drawn(objective, selection, most, seed)
    )


def _drawn(objective: TaskObjective, rows: Sequence[int], most: int, seed: int) -> TaskObjective:
    count = min(most, len(rows))
    if count < FEWEST_EXAMPLES:
        raise DataError(
            f"sharpness needs at least {FEWEST_EXAMPLES} examples, found {count}",
            remedy="give more data, or a larger --max-examples",
        )
    chosen = np.array(sorted(random.Random(seed).sample(rows, count)))
    size = min(objective.batch_size, math.ceil(count / GROUPS))
    return replace(objective.of(chosen), batch_size=size)


class _Runner:
    """Measures subjects on a sample, whatever its size turns out to be."""

    def __init__(
        self,
        subjects: Sequence[Subject],
        level: Level,
        radii: SharpnessRadii,
        study: Study,
        work: Callable[..., list[object]],
        warn: Callable[[str], None],
    ) -> None:
        self.subjects, self.level, self.radii = subjects, level, radii
        self.progress, self.seed = study.progress, study.seed
        self.work, self.warn = work, warn
        self._loaded: dict[str, Module] = {}
        self._each = 0.0

    def affordable(self, sample: CurvatureSample, left: float) -> int:
        """How many examples the time left holds; tells the cost.

        Raises:
            DataError: Too few.
        """
        pending = [s for s in self.subjects if not self._survey(s, sample).is_finished]
        if not pending:
            return sample.count
        self._loaded[pending[0].name] = pending[0].load()
        each = broadcast(seconds_each(sample.measured, self._loaded[pending[0].name]))
        seconds = each * self.level.gradients * len(pending)
        count = sample.count if seconds <= left else int(sample.count * left / seconds)
        if count < min(FEWEST_EXAMPLES, sample.count):
            raise DataError(
                f"sharpness ({self.level.name}) of {len(pending)} models would take "
                f"{seconds / 60:.0f} minutes, and {left / 60:.1f} are left",
                remedy="--budget 0 sets no limit",
            )
        self._each = seconds * count / sample.count / len(pending)
        expect(self.progress, "sharpness", self._each * len(pending))
        self.progress.say(
            f"sharpness ({self.level.name}) of {len(pending)} models on {count} examples: "
            f"at most {seconds * count / sample.count:.0f} s"
        )
        return count

    def entries(self, sample: CurvatureSample) -> list[SharpnessEntry]:
        """All measures of every subject; of the output, also beside its parents'."""
        found = []
        for number, subject in enumerate(self.subjects, 1):
            found.append(self._measured(subject, sample))
            expect(self.progress, "sharpness", self._each * (len(self.subjects) - number))
        parents = [one for one in found if one.entry.role == "parent"]
        return [
            one.entry.model_copy(update={"against": against(one, parents)})
            if one.entry.role == "output"
            else one.entry
            for one in found
        ]

    def _measured(self, subject: Subject, sample: CurvatureSample) -> Surveyed:
        batches = len(sample.measured.batches())
        spent = Spent(self.progress, f"sharpness of {subject.name}", self.level, batches)
        survey = self._survey(subject, sample, spent)
        entry = survey.entry(subject.name, subject.role, lambda: spent.batches / batches)
        return Surveyed(entry, survey.quotients)

    def _survey(
        self, subject: Subject, sample: CurvatureSample, spent: Spent | None = None
    ) -> Survey:
        known = self.work([subject], sample.count, self.seed)
        return Survey(
            lambda: self._loaded.pop(subject.name, None) or subject.load(),
            sample.measured,
            sample.held_out,
            self.level,
            self.radii,
            RecordCache(known, self.warn) if subject.digest else NoCache(),
            self.seed,
            spent or (lambda gradients: None),
        )


def against(output: Surveyed, parents: Sequence[Surveyed]) -> list[DifferenceEntry]:
    """λ_max of an output minus that of each parent, paired over documents.

    Intervals are wider by the residuals: Lanczos may not have converged.

    Args:
        output: Its measures, and v^T H v of each example at its eigenvector.
        parents: The same of each.
    """
    found = []
    for parent in parents:
        if output.quotients is None or parent.quotients is None:
            continue
        own, other = output.quotients, parent.quotients
        change = np.subtract(own.value, other.value)
        sure = estimate(change, np.array(own.weight), np.array(own.document))
        found.append(_difference(output.entry, parent.entry, sure))
    return found


def _difference(output: SharpnessEntry, parent: SharpnessEntry, sure: Estimate) -> DifferenceEntry:
    above, below = output.extremes.largest, parent.extremes.largest
    value, slack = above.value - below.value, above.residual + below.residual
    if sure.low is None or sure.high is None or sure.detectable is None:
        return DifferenceEntry(
            model=parent.model, value=value, low=None, high=None, significant=None
        )
    margin = (sure.high - sure.low) / 2 + slack
    return DifferenceEntry(
        model=parent.model,
        value=value,
        low=value - margin,
        high=value + margin,
        significant=abs(value) > margin,
        detectable=sure.detectable + slack,
    )


class Spent:
    """Counts the cost of a subject, and reports it to the progress."""

    def __init__(self, progress: Progress, title: str, level: Level, batches: int) -> None:
        self.progress, self.title, self.total = progress, title, int(level.gradients * batches)
        self.batches, self._told = 0.0, 0

    def __call__(self, gradients: float) -> None:
        """Count gradients of a batch that were spent, and pass them to the progress."""
        if not self.batches:
            self.progress.phase(self.title, self.total)
        self.batches += gradients
        self.progress.advance(int(self.batches) - self._told)
        self._told = int(self.batches)


def seconds_each(objective: Objective, model: Module) -> float:
    """What one gradient of the sample will take, from a batch of typical length."""
    batches = objective.batches()
    middle = MeanLoss(model, batches[len(batches) // 2 :][:1])
    timings = []
    for _ in range(3):  # the first is slower, and what else the machine does is not of the model
        began = time.perf_counter()
        middle.gradient()
        timings.append(time.perf_counter() - began)
    return min(timings) * len(batches) / world()[1]
