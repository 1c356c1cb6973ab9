"""Top eigenvectors against a Hessian that is decomposed whole."""

import pytest
import torch
from torch import Tensor

from mergekit_geo.curvature.eigenvectors import top_eigenpairs
from mergekit_geo.curvature.lanczos import random_start
from mergekit_geo.errors import ArgumentError


@pytest.mark.slow
def test_top_eigenvectors_of_digits_are_those_of_the_whole_hessian(digits: Tensor) -> None:
    values, vectors = torch.linalg.eigh(digits)
    start = random_start(650, torch.float64, 0)
    found = top_eigenpairs(lambda v: digits @ v, start, 2, steps=40)
    for rank, pair in enumerate(found, start=1):
        assert pair.converged
        assert pair.value == pytest.approx(values[-rank].item(), rel=1e-3)
        assert abs(pair.value - values[-rank].item()) <= pair.residual
        assert abs(pair.vector @ vectors[:, -rank]) == pytest.approx(1.0, abs=1e-3)
        assert pair.vector.norm() == pytest.approx(1.0)
    assert abs(found[0].vector @ found[1].vector) < 1e-10


def test_what_has_not_converged_is_told(digits: Tensor) -> None:
    start = random_start(650, torch.float64, 0)
    found = top_eigenpairs(lambda v: digits @ v, start, 2, steps=3)
    assert [pair.converged for pair in found] == [False, False]


def test_a_space_with_fewer_directions_is_refused() -> None:
    matrix = 3 * torch.eye(4, dtype=torch.float64)
    start = random_start(4, torch.float64, 0)
    with pytest.raises(ArgumentError, match=r"expected 2 directions .* found 1"):
        top_eigenpairs(lambda v: matrix @ v, start, 2, steps=4)
