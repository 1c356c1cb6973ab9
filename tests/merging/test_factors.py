"""Singular values and vectors, found by the Gram matrix or by random directions."""

import pytest
import torch
from torch import Tensor

from mergekit_geo.merging.matrices.factors import LEAST_SIDE, RANK, factors, polar


def matrix(rows: int, columns: int, rank: int | None = None, noise: float = 0.0) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    if rank is None:
        return torch.randn(rows, columns, generator=draw).double()
    left = torch.randn(rows, rank, generator=draw).double()
    found = left @ torch.randn(rank, columns, generator=draw).double()
    return found + noise * torch.randn(rows, columns, generator=draw).double()


@pytest.mark.parametrize("size", [(30, 20), (20, 30), (25, 25), (1, 7)], ids=str)
def test_as_an_svd_has_them(size: tuple[int, int]) -> None:
    whole = matrix(*size)
    found, expected = factors(whole), torch.linalg.svd(whole, full_matrices=False)
    torch.testing.assert_close(found.s, expected.S)
    torch.testing.assert_close((found.u * found.s) @ found.v.T, whole)
    torch.testing.assert_close(found.polar, expected.U @ expected.Vh, rtol=0, atol=1e-9)
    assert found.error < 1e-9
    assert not found.is_low


def test_singular_values_of_rounding_are_none() -> None:
    found = factors(matrix(40, 30, rank=3, noise=1e-8))
    assert len(found.s) == 3
    assert found.first(2).s.tolist() == found.s[:2].tolist()


@pytest.mark.parametrize("turned", [False, True])
def test_a_matrix_of_few_directions_is_seen_through(turned: bool) -> None:
    whole = matrix(LEAST_SIDE, LEAST_SIDE + 60, rank=20, noise=1e-8)
    whole = whole.T if turned else whole
    found, again = factors(whole, 5), factors(whole, 5)
    assert found.is_low
    assert torch.equal(found.u, again.u)
    assert len(found.s) == 20
    left = torch.linalg.matrix_norm(whole - (found.u * found.s) @ found.v.T, 2) / found.s[0]
    assert left / 2 < found.error <= 1.01 * left < RANK


def test_a_matrix_of_many_directions_is_not() -> None:
    assert not factors(matrix(LEAST_SIDE, LEAST_SIDE, rank=20, noise=1e-4)).is_low


def test_the_polar_factor_of_dependent_columns_is_a_partial_isometry() -> None:
    column = torch.tensor([[3.0], [4.0]]).double()
    found, error = polar(torch.cat([column, column], dim=1))
    torch.testing.assert_close(found, column / 5 / 2**0.5 * torch.ones(1, 2).double())
    assert error < 1e-12
