"""A product added a chunk at a time is the product of whole matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergekit_geo.checkpoints.adapter import low_rank
from mergekit_geo.checkpoints.adapter.low_rank import LowRank

SIZES = st.integers(1, 9)


@st.composite
def changes(draw: st.DrawFn, magnitudes: bool = False) -> tuple[LowRank, np.ndarray]:
    """A change and what it is made to, whole numbers so that sums are exact."""
    rows, columns, rank, by_column = draw(SIZES), draw(SIZES), draw(SIZES), draw(st.booleans())
    random = np.random.default_rng(draw(st.integers(0, 99)))
    left, right, base = (
        random.integers(-8, 9, shape).astype(np.float64)
        for shape in [(rows, rank), (rank, columns), (rows, columns)]
    )
    count = columns if by_column else rows
    magnitude = random.uniform(0.5, 2, count) if magnitudes else None
    return LowRank(left, right, magnitude, by_column), base


@given(changes(), st.data())
def test_any_chunk_is_that_of_the_whole(
    drawn: tuple[LowRank, np.ndarray], data: st.DataObject
) -> None:
    change, base = drawn
    whole = (base + change.left @ change.right).reshape(-1)
    start = data.draw(st.integers(0, len(whole) - 1))
    stop = data.draw(st.integers(start + 1, len(whole)))
    values = base.reshape(-1)[start:stop].copy()
    change.add(values, start)
    assert values.tolist() == whole[start:stop].tolist()


@pytest.mark.parametrize("length", [1, 7, 1000])
def test_rows_or_columns_get_their_magnitudes(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(low_rank, "LENGTH", length)

    @given(changes(magnitudes=True))
    def holds(drawn: tuple[LowRank, np.ndarray]) -> None:
        change, base = drawn
        assert change.magnitude is not None
        whole = base + change.left @ change.right
        norms = np.linalg.norm(whole, axis=0 if change.by_column else 1)
        if not norms.all():
            return
        flat = base.reshape(-1)
        factors = change.factors(lambda start, out: np.copyto(out, flat[start : start + len(out)]))
        np.testing.assert_allclose(factors, change.magnitude / norms, rtol=1e-12)
        values = whole.reshape(-1).copy()
        change.rescale(values, 0, factors)
        result = np.linalg.norm(values.reshape(whole.shape), axis=0 if change.by_column else 1)
        np.testing.assert_allclose(result, change.magnitude, rtol=1e-12)

    holds()
