"""Gram matrices of the models of a merge, as the statistics that its rule solves by."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergekit_geo.activations.examples import Examples, examples_of
from mergekit_geo.activations.model_grams import GramRun
from mergekit_geo.activations.prefix import PrefixPass
from mergekit_geo.activations.spool import Spool
from mergekit_geo.evaluation.study import Study
from mergekit_geo.merging.regmean import GramSettings, RegMean
from mergekit_geo.records.statistics import StatisticEntry
from mergekit_geo.selection.statistics import FoundStatistic

if TYPE_CHECKING:
    from mergekit_geo.config.sets import DataSource

KIND = "Gram matrices"


@dataclass(frozen=True)
class GramStatistic:
    """Gram matrices of what goes into a model's linear layers.

    Attributes:
        settings: What they are made of.
    """

    settings: GramSettings

    def of(self, study: Study, position: int, source: DataSource) -> FoundStatistic:
        """Make them, or find what an earlier run has made."""
        warnings: list[str] = []
        run = _run(self.settings, study, warnings)
        found = run.of(study.anchors[position], source)
        settings = {"layers": len(found.grams.widths), "batches": found.batches}
        entry = _entry(study, position, source, found.examples, settings).model_copy(
            update={"reused": found.reused, "seconds": found.seconds}
        )
        return FoundStatistic(entry, found.grams, found.grams.digest(), tuple(warnings))


@dataclass(frozen=True)
class StagedGramStatistic:
    """Gram matrices block by block, behind the merged blocks.

    Attributes:
        settings: What they are made of, and how blocks are merged.
    """

    settings: GramSettings

    def of_all(
        self, study: Study, sources: Sequence[DataSource], dtype: str | None
    ) -> list[FoundStatistic]:
        """Make those of all models."""
        assert self.settings.merge is not None
        how, weights = self.settings.merge
        warnings: list[str] = []
        run, models, began = _run(self.settings, study, warnings), study.anchors, time.monotonic()
        examples = [
            examples_of(model, source, self.settings.examples, study.compute)
            for model, source in zip(models, sources, strict=True)
        ]
        samples = [one.sample and one.sample.digest for one in examples]
        more = [str(self.settings), dtype, samples, [one.settings() for one in sources]]

        def spool(position: int, stage: int) -> Spool:
            ordered = [models[position], *models]
            return run.spool(ordered, sources[position], examples[position], *more, stage)

        passed = PrefixPass(
            models, RegMean("regmean_plus", weights, how, self.settings), examples, spool,
            study.compute, dtype, study.progress, lambda: study.clock.left, warnings.append,
        ).run()  # fmt: skip
        seconds = round(time.monotonic() - began, 3)
        found = []
        for position, grams in enumerate(passed):
            settings = {
                "layers": len(grams.widths),
                "blocks": len(grams.stages),
                "of": "all models",
            }
            entry = _entry(study, position, sources[position], examples[position], settings)
            key = hashlib.sha256("".join(grams.digests()).encode()).hexdigest()
            entry = entry.model_copy(update={"seconds": seconds})
            found.append(FoundStatistic(entry, grams, key, () if position else tuple(warnings)))
        return found


def _run(settings: GramSettings, study: Study, warnings: list[str]) -> GramRun:
    return GramRun(settings.examples, study.compute, study.clock, study.progress, warnings.append)


def _entry(
    study: Study,
    position: int,
    source: DataSource,
    examples: Examples,
    settings: Mapping[str, object],
) -> StatisticEntry:
    data, sample = source.as_settings, examples.sample
    return StatisticEntry(
        model=study.anchors[position].name,
        kind=KIND,
        source="a function" if data is None else data.origin,
        shared=False,
        digest="" if sample is None else sample.digest,
        documents=examples.documents,
        examples=examples.count,
        available=examples.available,
        settings={**settings, "seed": source.seed},
    )
