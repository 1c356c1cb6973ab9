"""Sharpness of several models on the same examples, within a budget told in advance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.content import checkpoint_digest
from mergekit_geo.config.measures import Compute, SharpnessRadii
from mergekit_geo.curvature.extremes import curvature
from mergekit_geo.curvature.levels import Level
from mergekit_geo.curvature.measure import LocalLoss
from mergekit_geo.curvature.sample import (
    FEWEST_EXAMPLES,
    CurvatureSample,
    Spent,
    make_sample,
    seconds_each,
)
from mergekit_geo.curvature.table import gradients_of, is_finished, records_at
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.cache import MeasurementCache, NoCache, RecordCache
from mergekit_geo.evaluation.cache_key import cache_key
from mergekit_geo.evaluation.plan import SharpnessReport
from mergekit_geo.evaluation.statistics import estimate
from mergekit_geo.evaluation.study import Study
from mergekit_geo.modules.open import at_least_single, open_module
from mergekit_geo.processes import broadcast, is_main_process
from mergekit_geo.progress import expect
from mergekit_geo.records.curvature import QuotientsEntry, SharpnessEntry
from mergekit_geo.records.losses import DifferenceEntry, Estimate


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


PairedEntry = tuple[SharpnessEntry, QuotientsEntry | None]
"""A model's measures, and v^T H v of each example at the eigenvector of λ_max, if that is known."""


def subject(checkpoint: Checkpoint, role: Literal["parent", "model"], compute: Compute) -> Subject:
    """A checkpoint whose data is here, to be measured in float32, or in float64 where it is."""
    wide = replace(compute, dtype="float32")
    return Subject(
        checkpoint.name,
        role,
        lambda: at_least_single(open_module(checkpoint, wide)),
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
    """Measure models one after another; what was finished in an earlier run is not made again.

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
    sample = make_sample(objective, most or level.examples, seed)
    suite = _Suite(study, subjects, level, radii)
    count = suite.settle(sample)
    if count < sample.count:
        suite.warnings.append(
            f"sharpness measured on {count} of {sample.count} examples to stay within the budget; "
            "--budget 0 measures all"
        )
        sample = make_sample(objective, count, seed)
    return SharpnessReport(suite.entries(sample), suite.warnings)


class _Suite:
    """All measures of several models on a sample, whatever its size turns out to be."""

    def __init__(
        self, study: Study, subjects: Sequence[Subject], level: Level, radii: SharpnessRadii
    ) -> None:
        self.study, self.subjects, self.level, self.radii = study, subjects, level, radii
        self.warnings: list[str] = []
        self._loaded: dict[str, Module] = {}
        self._each = 0.0

    def settle(self, sample: CurvatureSample) -> int:
        """How many examples are measured: as many as in an earlier run, or as the budget holds.

        Raises:
            DataError: Too few.
        """
        budget = self.study.compute.budget
        known = self._key(self.subjects, str(self.level), budget, sample.count)
        settled = MeasurementCache(known, self.warnings.append)
        earlier = settled.settled(sample.count) if is_main_process() else None
        left = broadcast(self.study.clock.left)
        count = broadcast(earlier) or self._affordable(sample, left)
        settled.settle(count)
        return count

    def _affordable(self, sample: CurvatureSample, left: float) -> int:
        """How many examples the time left holds; tells the cost."""
        pending = [one for one in self.subjects if not is_finished(self._at(one, sample))]
        if not pending:
            return sample.count
        self._loaded[pending[0].name] = pending[0].load()
        each = broadcast(seconds_each(sample.measured, self._loaded[pending[0].name]))
        seconds = each * gradients_of(self.level) * len(pending)
        count = sample.count if seconds <= left else int(sample.count * left / seconds)
        if count < min(FEWEST_EXAMPLES, sample.count):
            raise DataError(
                f"sharpness ({self.level.name}) of {len(pending)} models would take "
                f"{seconds / 60:.0f} minutes, and {left / 60:.1f} are left",
                remedy="--budget 0 sets no limit",
            )
        self._each = seconds * count / sample.count / len(pending)
        expect(self.study.progress, "sharpness", self._each * len(pending))
        self.study.progress.say(
            f"sharpness ({self.level.name}) of {len(pending)} models on {count} examples: "
            f"at most {seconds * count / sample.count:.0f} s"
        )
        return count

    def entries(self, sample: CurvatureSample) -> list[SharpnessEntry]:
        """All measures of every subject; of the output, also beside its parents'."""
        found = []
        for number, subject in enumerate(self.subjects, 1):
            found.append(self._measured(subject, sample))
            left = len(self.subjects) - number
            expect(self.study.progress, "sharpness", self._each * left)
        parents = [one for one in found if one[0].role == "parent"]
        return [
            one[0].model_copy(update={"against": against(one, parents)})
            if one[0].role == "output"
            else one[0]
            for one in found
        ]

    def _measured(self, subject: Subject, sample: CurvatureSample) -> PairedEntry:
        batches, radii = len(sample.measured.batches()), self.radii
        most = gradients_of(self.level) * batches
        spent = Spent(self.study.progress, f"sharpness of {subject.name}", most)
        at = replace(self._at(subject, sample), spend=spent)
        found = records_at(at)
        entry = SharpnessEntry(
            model=subject.name,
            role=subject.role,
            level="full" if self.level.ends == "both" else "quick",
            rho=radii.rho,
            adaptive_rho=radii.adaptive,
            noise=radii.noise,
            gradients=round(spent.batches / batches, 2),
            **found,
        )
        return entry, curvature(at).quotients

    def _at(self, subject: Subject, sample: CurvatureSample) -> LocalLoss:
        known = self._key([subject], sample.count, self.study.seed)
        return LocalLoss(
            load=lambda: self._loaded.pop(subject.name, None) or subject.load(),
            sample=sample,
            level=self.level,
            radii=self.radii,
            seed=self.study.seed,
            cache=RecordCache(known, self.warnings.append) if subject.digest else NoCache(),
        )

    def _key(self, models: Sequence[Subject], *more: object) -> list[object]:
        study, wide = self.study, replace(self.study.compute, dtype="float32")
        return cache_key([one.digest for one in models], study.sample, study.data, wide, *more)


def against(output: PairedEntry, parents: Sequence[PairedEntry]) -> list[DifferenceEntry]:
    """λ_max of an output minus that of each parent, paired over documents.

    Intervals are wider by the residuals: Lanczos may not have converged.

    Args:
        output: Its measures, and v^T H v of each example at its eigenvector.
        parents: The same of each.
    """
    found = []
    for parent, other in parents:
        entry, own = output
        if own is None or other is None:
            continue
        change = np.subtract(own.value, other.value)
        sure = estimate(change, np.array(own.weight), np.array(own.document))
        found.append(_difference(entry, parent, sure))
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
