"""Examples that changed: counts, order and texts against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from mergekit_geo.evaluation.changed_examples import MOST, TELLING, changed_examples
from mergekit_geo.evaluation.example_rows import Described
from mergekit_geo.evaluation.losses import NamedLosses
from mergekit_geo.tasks.losses import Floats, Losses

COUNT = 60
NOBODY = Described(None, private=False)


def losses(loss: Floats, score: Floats | None = None, weight: Floats | None = None) -> Losses:
    ones = np.ones(len(loss)) if weight is None else weight
    return Losses(loss, ones, np.arange(len(loss)) // 2, score)


@pytest.fixture
def models() -> NamedLosses:
    """Two parents and an output, right or wrong at random."""
    draw = np.random.default_rng(0)

    def one(mean: float) -> Losses:
        return losses(draw.exponential(mean, COUNT), draw.integers(0, 2, COUNT).astype(float))

    return [
        ("a", "parent", one(2.0)),
        ("mean", "reference", one(0.1)),
        ("b", "parent", one(1.0)),
        ("out", "output", one(1.5)),
    ]


def test_counts_are_those_of_a_plain_loop(models: NamedLosses) -> None:
    found = changed_examples("own", models, NOBODY, np.arange(COUNT))
    assert found is not None
    (_, _, a), _, (_, _, b), (_, _, out) = models
    assert a.score is not None
    assert b.score is not None
    assert out.score is not None
    lost = [i for i in range(COUNT) if a.score[i] == b.score[i] == 1 and out.score[i] == 0]
    gained = [i for i in range(COUNT) if a.score[i] == b.score[i] == 0 and out.score[i] == 1]
    entry = found.entry
    assert entry.models == ["a", "b", "out"]
    assert (entry.lost, entry.gained, entry.examples) == (len(lost), len(gained), COUNT)
    assert entry.best == ("a" if a.mean < b.mean else "b")
    best = a if entry.best == "a" else b
    rise = out.loss - best.loss
    above = sum(rise[i] + rise[i + 1] > 0 for i in range(0, COUNT, 2))
    assert (entry.documents.above, entry.documents.below) == (above, COUNT // 2 - above)
    kinds = {kind: [r["example"] for r in found.rows if r["change"] == kind]
             for kind in ("lost", "gained", "rise", "fall")}  # fmt: skip
    assert kinds["lost"] == sorted(lost, key=lambda i: -rise[i])
    assert kinds["gained"] == sorted(gained, key=lambda i: rise[i])
    others = set(range(COUNT)) - {*lost, *gained}
    assert kinds["rise"] == sorted((i for i in others if rise[i] > 0), key=lambda i: -rise[i])
    assert kinds["fall"] == sorted((i for i in others if rise[i] < 0), key=lambda i: rise[i])
    worse, better = [*kinds["lost"], *kinds["rise"]], [*kinds["gained"], *kinds["fall"]]
    assert [one.example for one in entry.telling] == [*worse[:TELLING], *better[:TELLING]]
    assert entry.telling[0].loss == [x.loss[entry.telling[0].example] for x in (a, b, out)]


def test_shares_of_right_tokens_are_neither_right_nor_wrong(models: NamedLosses) -> None:
    partly = [(n, r, losses(x.loss, np.full(COUNT, 0.5))) for n, r, x in models]
    found = changed_examples("own", partly, NOBODY, np.arange(COUNT))
    assert found is not None
    assert (found.entry.lost, found.entry.gained) == (None, None)
    assert {row["change"] for row in found.rows} == {"rise", "fall"}


def test_what_an_example_counts_decides_how_telling_it_is() -> None:
    weight = np.array([1.0, 100.0, 1.0, 1.0])
    models: NamedLosses = [
        ("a", "parent", losses(np.zeros(4), weight=weight)),
        ("out", "output", losses(np.array([3.0, 0.1, 0.0, -1.0]), weight=weight)),
    ]
    found = changed_examples("own", models, NOBODY, np.array([7, 8, 9, 10]))
    assert found is not None
    assert [(row["example"], row["change"]) for row in found.rows] == [
        (8, "rise"), (7, "rise"), (10, "fall"),
    ]  # fmt: skip


def test_a_file_holds_the_largest_rises_only() -> None:
    count = 3 * MOST
    models: NamedLosses = [
        ("a", "parent", losses(np.zeros(count))),
        ("out", "output", losses(np.arange(count) - count / 3)),
    ]
    found = changed_examples("own", models, NOBODY, np.arange(count))
    assert found is not None
    assert len(found.rows) == 2 * MOST
    assert len(found.entry.telling) == 2 * TELLING


def test_nothing_without_parents() -> None:
    alone: NamedLosses = [("out", "output", losses(np.ones(4)))]
    assert changed_examples("own", alone, NOBODY, None) is None
