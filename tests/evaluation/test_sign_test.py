"""The sign test over documents, beside scipy's binomial test and by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mergekit_geo.evaluation.sign_test import sign_test
from mergekit_geo.tasks.losses import Losses


def losses(values: object, documents: object = None, weights: object = None) -> Losses:
    loss = np.asarray(values, dtype=np.float64)
    document = np.arange(len(loss)) if documents is None else np.asarray(documents)
    weight = np.ones(len(loss)) if weights is None else np.asarray(weights, dtype=np.float64)
    return Losses(loss, weight, document)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 5))
def test_agrees_with_the_exact_binomial_test(above: int, below: int, ties: int) -> None:
    signs = [1.0] * above + [-1.0] * below + [0.0] * ties
    if not signs:
        return
    found = sign_test(losses(signs), losses(np.zeros(len(signs))))
    assert (found.above, found.below, found.ties) == (above, below, ties)
    expected = binomtest(above, above + below).pvalue if above + below else 1.0
    assert found.p_value == pytest.approx(expected)
    assert found.is_significant == (expected < 0.05)


def test_the_other_way_round_swaps_above_and_below() -> None:
    draw = np.random.default_rng(0)
    first, second = losses(draw.normal(size=15)), losses(draw.normal(size=15))
    found, turned = sign_test(first, second), sign_test(second, first)
    assert (found.above, found.below) == (turned.below, turned.above)
    assert found.p_value == turned.p_value


def test_documents_count_once_by_the_mean_of_their_tokens() -> None:
    """The first has three windows, of which one is long; the last has no weight."""
    document, weight = [4, 4, 4, 7, 9], [1, 1, 10, 5, 0]
    first = losses([0, 0, 2, 1, 5], document, weight)
    found = sign_test(first, losses([1, 1, 1, 1, 1], document, weight))
    assert (found.above, found.below, found.ties, found.p_value) == (1, 0, 1, 1.0)


def test_a_few_large_rises_do_not_decide() -> None:
    """The mean rises, and yet most documents fall."""
    change = np.array([9.0, 9.0, *[-0.1] * 18])
    found = sign_test(losses(change), losses(np.zeros(20)))
    assert (found.above, found.below) == (2, 18)
    assert found.is_significant


@pytest.mark.parametrize("documents", [6, 20, 100])
def test_false_alarms_are_at_most_one_in_twenty(documents: int) -> None:
    """Skewed differences of documents, whose median is zero."""
    draw, alarms, rounds = np.random.default_rng(documents), 0, 1000
    zero = losses(np.zeros(documents))
    for _ in range(rounds):
        change = np.exp(draw.normal(size=documents)) * draw.choice([-1, 1], size=documents)
        alarms += sign_test(losses(change), zero).is_significant
    assert alarms / rounds <= 0.06
