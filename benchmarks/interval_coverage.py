"""How honest the intervals of barriers are: coverage and false alarms on made-up losses.

Usage:
    python benchmarks/interval_coverage.py   # 2,000 repetitions a row, about two minutes
    python benchmarks/interval_coverage.py --repeats 200

Each repetition draws documents from a large population, traces a path on them and asks
`connectivity.barrier` for the barrier, as users do: t is chosen on half of the documents, and the
interval comes from the other half. What is right is the population's excess at the chosen t.

Documents have 1 to 20 windows, most of them few. How much a document minds the path is lognormal
about its mean (twice as spread as for the demo's models, where the coefficient of variation is
0.12 to 0.14, and correlated with length as there), and every window has noise of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks import harness
from mergekit_geo.connectivity.barrier import path_heights
from mergekit_geo.connectivity.profile import trace
from mergekit_geo.evaluation.split import Split
from mergekit_geo.tasks.losses import Floats, Indices, Losses

POPULATION = 50_000
MOST_WINDOWS, WINDOW, SHORTEST = 20, 63, 8
"""Windows of a document, tokens of a window, and of the last one at the least."""
LENGTH_SPREAD, LENGTH_CORRELATION = 1.0, -0.3
WINDOW_NOISE = 0.4
"""Of a window's excess, as a share of the scale."""
WAVE = 0.1
"""Of a document's sin 2 pi t, likewise: it moves the top from document to document."""
DOCUMENTS = (10, 16, 30, 100, 400)


@dataclass(frozen=True)
class Setting:
    """What a path does to documents.

    Attributes:
        name: For the table.
        bump: Height of the barrier in the population, in nats; 0 for none.
        scale: Of documents' deviations from it, in nats.
        spread: Standard deviation of the logarithm of a document's part; the skew.
        sign: -1 mirrors the deviations: their long tail then points down.
    """

    name: str
    bump: float
    scale: float
    spread: float
    sign: int = 1


SETTINGS = (
    Setting("bump", bump=2.0, scale=2.0, spread=0.25),
    Setting("bump, tail down", bump=2.0, scale=2.0, spread=0.25, sign=-1),
    Setting("bump, more skew", bump=2.0, scale=2.0, spread=0.4),
    Setting("none", bump=0.0, scale=0.05, spread=0.25),
    Setting("none, tail down", bump=0.0, scale=0.05, spread=0.25, sign=-1),
    Setting("none, more skew", bump=0.0, scale=0.05, spread=0.4),
)


@dataclass(frozen=True)
class Population:
    """Documents' windows, one after the other (N documents, W windows).

    Attributes:
        first: (N + 1,) index of each document's first window, and the end.
        tokens: (W,) weight of each window.
        ends: (2, W) losses at t = 0 and 1.
        parts: (2, W) what multiplies 4 t (1 - t) and sin 2 pi t in the excess.
    """

    first: Indices
    tokens: Floats
    ends: Floats
    parts: Floats

    @classmethod
    def of(cls, setting: Setting, draw: np.random.Generator) -> Population:
        """Draw one whose mean excess is exactly the setting's bump at t = 1/2."""
        length = draw.normal(size=POPULATION)
        windows = np.exp(0.7 + LENGTH_SPREAD * length).round().clip(1, MOST_WINDOWS).astype(int)
        first = np.concatenate([[0], windows.cumsum()])
        tokens = np.full(first[-1], float(WINDOW))
        tokens[first[1:] - 1] = draw.integers(SHORTEST, WINDOW + 1, size=POPULATION)
        own = draw.normal(size=POPULATION) * np.sqrt(1 - LENGTH_CORRELATION**2)
        minded = setting.sign * np.exp(setting.spread * (LENGTH_CORRELATION * length + own))
        level = np.repeat(np.exp(draw.normal(1.2, 0.1, size=(2, POPULATION))), windows, axis=1)
        document = np.stack([minded, WAVE * draw.normal(size=POPULATION)])
        parts = np.repeat(document, windows, axis=1)
        parts[0] += WINDOW_NOISE * draw.normal(size=first[-1])
        parts -= (parts @ tokens / tokens.sum())[:, None]
        parts *= setting.scale
        parts[0] += setting.bump
        return cls(first, tokens, level, parts)

    def sample(self, count: int, draw: np.random.Generator) -> Sample:
        """Some documents, drawn one by one."""
        chosen = draw.integers(0, len(self.first) - 1, size=count)
        rows = [np.arange(self.first[i], self.first[i + 1]) for i in chosen]
        windows, document = (
            np.concatenate(rows),
            np.repeat(np.arange(count), [len(r) for r in rows]),
        )
        ends, parts = self.ends[:, windows], self.parts[:, windows]
        return Sample(self.tokens[windows], document, ends, parts)


@dataclass(frozen=True)
class Sample:
    """Some documents' windows, as in the population (n windows)."""

    tokens: Floats
    document: Indices
    ends: Floats
    parts: Floats

    def losses(self, t: float) -> Losses:
        """Losses at a place on the path."""
        loss = (1 - t) * self.ends[0] + t * self.ends[1] + shapes(t) @ self.parts
        return Losses(loss, self.tokens, self.document)

    def halves(self, count: int) -> Split:
        """The first documents choose, the others report."""
        chooses = self.document < count // 2
        return Split(np.flatnonzero(chooses), np.flatnonzero(~chooses))


def shapes(t: float) -> Floats:
    """What the two parts of an excess are multiplied by."""
    return np.array([4 * t * (1 - t), np.sin(2 * np.pi * t)])


@dataclass(frozen=True)
class Row:
    """Shares of repetitions: truth below the interval, truth above it, a barrier claimed."""

    documents: int
    setting: Setting
    below: float
    above: float
    claims: float

    def cells(self) -> list[str]:
        """For the table."""
        covered = 1 - self.below - self.above
        shares = [f"{share:.1%}" for share in (covered, self.below, self.above)]
        alarms = "" if self.setting.bump else f"{self.claims:.1%}"
        return [str(self.documents), self.setting.name, *shares, alarms]


def measured(setting: Setting, documents: int, repeats: int) -> Row:
    """One row of the table."""
    draw = np.random.default_rng([documents, *setting.name.encode()])
    population = Population.of(setting, draw)
    found = np.array([once(population, setting, documents, draw) for _ in range(repeats)])
    return Row(documents, setting, *found.mean(axis=0).tolist())


def once(
    population: Population, setting: Setting, documents: int, draw: np.random.Generator
) -> tuple[bool, bool, bool]:
    """Whether the truth is below the interval, above it, and whether a barrier is claimed."""
    sample = population.sample(documents, draw)
    found = path_heights(trace(sample.losses, lambda losses: sample.halves(documents)))
    top = found.loss.barrier
    assert top.estimate.low is not None, "too few documents"
    assert top.estimate.high is not None, "too few documents"
    truth = float(shapes(top.t)[0]) * setting.bump
    return truth < top.estimate.low, truth > top.estimate.high, found.height > 0


def rows_of(repeats: int, documents: Sequence[int] = DOCUMENTS) -> Iterator[list[str]]:
    """Every setting with every number of documents."""
    cases = [(setting, count) for setting in SETTINGS for count in documents]
    with ProcessPoolExecutor() as pool:
        work = partial(measured, repeats=repeats)
        yield from (row.cells() for row in pool.map(work, *zip(*cases, strict=True)))


def main() -> None:
    repeats = harness.parser(__doc__, repeats=2000).parse_args().repeats
    head = ["documents", "setting", "coverage", "truth below", "truth above", "false alarms"]
    harness.table(head, rows_of(repeats))


if __name__ == "__main__":
    main()
