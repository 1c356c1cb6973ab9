"""How honest differences to the best parent are, by set and over sets, and the sign test.

Usage:
    python benchmarks/evaluation_coverage.py   # 2,000 repetitions a row, about five minutes
    python benchmarks/evaluation_coverage.py --repeats 200

Each repetition draws documents of one or several sets from large populations, measures two parents
and their merge on them, and asks what a report asks: the paired difference of the merge to the best
parent of each set, which is chosen on the same documents; the mean of these differences over the
sets; and the sign test. What is right is the population's difference to the parent that was chosen.
False alarms are significant differences of any sign where the population has none, of the mean or
of the median document.

Documents are those of `interval_coverage.py`: 1 to 20 windows, most of them few. What sets a merge
apart from a parent is lognormal by document about its mean, with a tail that points up or down, and
every window has noise of its own. Where parents differ by `gap`, the better one is clear; where
they do not, the one that is called best is a matter of luck, and the interval does not know that.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks import harness
from benchmarks.interval_coverage import LENGTH_SPREAD, MOST_WINDOWS, SHORTEST, WINDOW
from mergekit_geo.evaluation.across import mean_of
from mergekit_geo.evaluation.sign_test import sign_test
from mergekit_geo.evaluation.statistics import DocumentMean, paired_difference
from mergekit_geo.tasks.losses import Floats, Indices, Losses

NOISE = 0.4
"""Of a window's difference, as a share of the scale."""
LEVEL_SPREAD = 0.1
"""Of the documents' losses."""
DOCUMENTS = (10, 16, 30, 100, 400)
SETS = (1, 2, 4)


@dataclass(frozen=True)
class Setting:
    """How models differ on documents.

    Attributes:
        name: For the table.
        change: The merge's loss minus a parent's, in the population, in nats.
        gap: The second parent's loss minus the first's.
        spread: Standard deviation of the logarithm of a document's part; the skew.
        sign: -1 turns the long tail down.
        median: Whether `change` is that of the median document, and not of the mean.
    """

    name: str
    change: float = 0.0
    gap: float = 0.5
    spread: float = 0.4
    sign: int = 1
    median: bool = False


SETTINGS = (
    Setting("no change"),
    Setting("no change, tail down", sign=-1),
    Setting("no change, no skew", spread=0.05),
    Setting("worse by 0.1", change=0.1),
    Setting("no change, equal parents", gap=0.0),
    Setting("no change of the median", median=True),
)
SCALE = 0.2
"""Of documents' differences, in nats."""


def sample(setting: Setting, documents: int, draw: np.random.Generator) -> list[Losses]:
    """Losses of two parents and their merge on the windows of some documents."""
    windows, tokens, document = lengths(documents, draw)
    level = np.exp(draw.normal(1.2, LEVEL_SPREAD, size=documents))[document]
    gap = setting.gap + parts(setting, document, draw)
    change = setting.change + parts(setting, document, draw)
    return [Losses(level + one, tokens, document) for one in (np.zeros(windows), gap, change)]


def lengths(documents: int, draw: np.random.Generator) -> tuple[int, Floats, Indices]:
    """How many windows there are, their tokens, and their documents."""
    each = np.exp(0.7 + LENGTH_SPREAD * draw.normal(size=documents))
    each = each.round().clip(1, MOST_WINDOWS).astype(int)
    tokens = np.full(each.sum(), float(WINDOW))
    tokens[each.cumsum() - 1] = draw.integers(SHORTEST, WINDOW + 1, size=documents)
    return len(tokens), tokens, np.repeat(np.arange(documents), each)


def parts(setting: Setting, document: Indices, draw: np.random.Generator) -> Floats:
    """Differences of windows whose mean, or median by document, is zero in the population."""
    count = document[-1] + 1
    own = np.exp(setting.spread * draw.normal(size=count))
    middle = 1.0 if setting.median else np.exp(setting.spread**2 / 2)
    noise = 0.0 if setting.median else NOISE * draw.normal(size=len(document))
    return np.asarray(SCALE * setting.sign * ((own - middle)[document] + noise))


@dataclass(frozen=True)
class Row:
    """Shares of repetitions: truth below the interval, above it, and false alarms."""

    setting: Setting
    sets: int
    documents: int
    below: float
    above: float
    signs: float

    def cells(self) -> list[str]:
        """For the table."""
        covered = "" if self.setting.median else f"{1 - self.below - self.above:.1%}"
        sides = ["" if self.setting.median else f"{x:.1%}" for x in (self.below, self.above)]
        signs = f"{self.signs:.1%}" if self.setting.median and self.sets == 1 else ""
        return [self.setting.name, str(self.sets), str(self.documents), covered, *sides, signs]


def measured(setting: Setting, sets: int, documents: int, repeats: int) -> Row:
    """One row of the table."""
    draw = np.random.default_rng([sets, documents, *setting.name.encode()])
    found = np.array([once(setting, sets, documents, draw) for _ in range(repeats)])
    return Row(setting, sets, documents, *found.mean(axis=0).tolist())


def once(
    setting: Setting, sets: int, documents: int, draw: np.random.Generator
) -> tuple[bool, bool, bool]:
    """Whether the truth is below the mean's interval, above it, and whether signs are alike."""
    found, truths, alike = [], [], False
    for _ in range(sets):
        parents, output = (losses := sample(setting, documents, draw))[:2], losses[2]
        best = min((0, 1), key=lambda i: parents[i].mean)
        found.append(paired_difference(output, parents[best]))
        truths.append(setting.change - best * setting.gap)
        alike = sign_test(output, parents[0]).is_significant
    return *sides(found, float(np.mean(truths))), alike


def sides(found: list[DocumentMean], truth: float) -> tuple[bool, bool]:
    """Whether the truth is below the interval of the mean, and above it."""
    mean = mean_of(found)
    assert mean.low is not None, "too few documents"
    assert mean.high is not None, "too few documents"
    return truth < mean.low, truth > mean.high


def rows_of(repeats: int) -> Iterator[list[str]]:
    """Every setting with every number of sets and of documents."""
    cases = [
        (setting, sets, count)
        for setting in SETTINGS
        for sets in (SETS[:1] if setting.median else SETS)
        for count in DOCUMENTS
    ]
    with ProcessPoolExecutor() as pool:
        work = partial(measured, repeats=repeats)
        yield from (row.cells() for row in pool.map(work, *zip(*cases, strict=True)))


def main() -> None:
    repeats = harness.parser(__doc__, repeats=2000).parse_args().repeats
    head = ["setting", "sets", "documents", "coverage", "truth below", "truth above", "sign test"]
    harness.table(head, rows_of(repeats))


if __name__ == "__main__":
    main()
