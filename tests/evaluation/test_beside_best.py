"""An output beside the best parent of each set, over all sets."""

from __future__ import annotations

import numpy as np
import pytest

from mergekit_geo.evaluation.across import mean_of
from mergekit_geo.evaluation.beside_best import BesideBest, across_sets
from mergekit_geo.evaluation.statistics import DocumentMean
from mergekit_geo.records.losses import DataEntry
from tests.evaluation.test_across import a_set


def beside(name: str, loss: float, mean: DocumentMean, **data: object) -> BesideBest:
    entry = DataEntry(
        source=name, digest="", documents=9, examples=9, available=9, tokens=9, seq_len=9, seed=0,
        **{"task": "causal-lm", **data},
    )  # fmt: skip
    return BesideBest(name, 1.0, entry, loss, mean)


def test_sets_that_count_in_unlike_units_are_compared_by_shares_of_the_loss() -> None:
    draw = np.random.default_rng(5)
    chat, code = a_set(draw, 9, 1.0), a_set(draw, 9, 1.0)
    same = across_sets([beside("chat", 4.0, chat), beside("code", 0.5, code, task="seq2seq")])
    assert same.mean == mean_of([chat, code])
    assert not same.relative
    digits = beside("digits", 0.5, code, task="image-classification", unit="example")
    found = across_sets([beside("chat", 4.0, chat), digits])
    assert found.relative
    assert found.mean.value == pytest.approx((chat.value / 4 + code.value / 0.5) / 2)
    worst = max((chat, 4.0), (code, 0.5), key=lambda pair: pair[0].value / pair[1])
    assert worst[0].estimate.high is not None
    assert found.worst.high == pytest.approx(worst[0].estimate.high / worst[1])
