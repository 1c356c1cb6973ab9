"""Basins are the connected components of the pairs without a barrier."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergekit_geo.connectivity.basins import basins
from mergekit_geo.errors import ArgumentError
from mergekit_geo.tasks.losses import Floats


def matrix(count: int, *joined: tuple[int, int]) -> Floats:
    """No barrier between those joined, 2 between all others."""
    found = np.full((count, count), 2.0)
    for one, other in joined:
        found[one, other] = found[other, one] = 0.0
    np.fill_diagonal(found, 0.0)
    return found


def naive(barriers: Floats, threshold: float) -> set[frozenset[int]]:
    """Merge groups until none touch."""
    groups = [{i} for i in range(len(barriers))]
    for i, row in enumerate(barriers):
        for j, value in enumerate(row):
            if value < threshold:
                one = next(group for group in groups if i in group)
                other = next(group for group in groups if j in group)
                if one is not other:
                    one |= other
                    groups.remove(other)
    return {frozenset(group) for group in groups}


@given(st.integers(1, 8), st.integers(0, 2**32 - 1), st.floats(0.05, 0.9))
def test_agrees_with_merging_by_hand(count: int, seed: int, threshold: float) -> None:
    upper = np.triu(np.random.default_rng(seed).uniform(0, 1, size=(count, count)), 1)
    found = basins(upper + upper.T, [0.0] * count, threshold)
    assert {frozenset(members) for members in found.all} == naive(upper + upper.T, threshold)
    assert [min(members) for members in found.all] == sorted(min(m) for m in found.all)
    assert all(list(members) == sorted(members) for members in found.all)


def test_a_third_model_leads_around_a_barrier() -> None:
    assert basins(matrix(3, (0, 1), (1, 2)), [1, 1, 1], 0.1).all == ((0, 1, 2),)


def test_largest_then_lowest_loss_then_first() -> None:
    assert basins(matrix(5, (1, 3), (3, 4)), [0, 9, 0, 9, 9], 0.1).largest == (1, 3, 4)
    assert basins(matrix(4, (0, 1), (2, 3)), [3.0, 3.2, 3.1, 3.0], 0.1).largest == (2, 3)
    assert basins(matrix(4, (0, 1), (2, 3)), [3.0, 3.1, 3.1, 3.0], 0.1).largest == (0, 1)
    assert basins(matrix(2), [float("nan"), 9.0], 0.1).largest == (1,)


def test_below_is_not_at() -> None:
    assert len(basins(matrix(2), [1, 1], 2.0).all) == 2
    assert len(basins(matrix(2), [1, 1], 2.1).all) == 1


def test_unknown_barrier_parts() -> None:
    barriers = matrix(2, (0, 1))
    barriers[0, 1] = barriers[1, 0] = np.nan
    assert basins(barriers, [1, 1], 0.1).all == ((0,), (1,))


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan"), float("inf")])
def test_threshold_is_checked(threshold: float) -> None:
    with pytest.raises(ArgumentError, match=r"must be a number above 0, found (0|-1|nan|inf)"):
        basins(matrix(2), [1, 1], threshold)
