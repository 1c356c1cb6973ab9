"""Extreme eigenvalues by Lanczos, against all the eigenvalues of matrices that can be held."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mergekit_geo.curvature.lanczos import (
    Krylov,
    Product,
    extremes_converged,
    lanczos,
    random_start,
)
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.modules.vectors import coordinates, norm


def by(matrix: Tensor) -> Product:
    return lambda vector: matrix @ vector


def start(matrix: Tensor, seed: int = 0) -> Tensor:
    return random_start(len(matrix), matrix.dtype, seed)


def symmetric(size: int, seed: int) -> Tensor:
    """Of random eigenvalues, negative ones too."""
    draw = torch.Generator().manual_seed(1000 + seed)
    matrix = torch.randn(size, size, dtype=torch.float64, generator=draw)
    return matrix + matrix.T


def low_rank(size: int, eigenvalues: list[float]) -> Tensor:
    draw = torch.Generator().manual_seed(1000)
    columns = torch.randn(size, len(eigenvalues), dtype=torch.float64, generator=draw)
    basis = torch.linalg.qr(columns)[0]
    return basis @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ basis.T


def naive_ritz_values(matrix: Tensor, vector: Tensor, steps: int) -> np.ndarray:
    """Eigenvalues of A on the Krylov space, by Householder QR of ever more columns."""
    basis = (vector / vector.norm())[:, None]
    for _ in range(steps - 1):
        basis = torch.linalg.qr(torch.cat([basis, matrix @ basis[:, -1:]], dim=1))[0]
    return torch.linalg.eigvalsh(basis.T @ matrix @ basis).numpy()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("steps", "error"), [(10, 2e-8), (15, 1e-14)])
def test_largest_eigenvalue_of_a_trained_model(
    digits: Tensor, steps: int, error: float, seed: int
) -> None:
    found = lanczos(by(digits), start(digits, seed), steps)
    assert found.values[-1] == pytest.approx(float(torch.linalg.eigvalsh(digits)[-1]), rel=error)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_ritz_values_are_those_of_the_krylov_space(digits: Tensor, steps: int) -> None:
    found = lanczos(by(digits), start(digits), steps)
    naive = naive_ritz_values(digits, start(digits), steps)
    np.testing.assert_allclose(found.values, naive, rtol=1e-11)


@pytest.mark.parametrize("steps", [1, 3, 10, 40])
def test_residual_bounds_the_error(digits: Tensor, steps: int) -> None:
    found = lanczos(by(digits), start(digits), steps)
    true = torch.linalg.eigvalsh(digits).numpy()
    nearest = np.abs(found.values[:, None] - true).min(axis=1)
    assert (nearest <= found.residuals + 1e-15).all()


def test_residual_is_that_of_the_ritz_vector(digits: Tensor) -> None:
    found = lanczos(by(digits), start(digits), 8)
    for index in (0, 3, -1):
        ritz = found.vector(index)
        rest = digits @ ritz - found.values[index] * ritz
        assert float(ritz.norm()) == pytest.approx(1, abs=1e-14)
        assert float(rest.norm()) == pytest.approx(found.residuals[index], rel=1e-10)


def test_basis_stays_orthonormal_and_copies_do_not_appear(digits: Tensor) -> None:
    found = lanczos(by(digits), start(digits), 80)
    products = found.basis @ found.basis.T
    torch.testing.assert_close(products, torch.eye(80, dtype=torch.float64), rtol=0, atol=1e-14)
    true = torch.linalg.eigvalsh(digits).numpy()
    np.testing.assert_allclose(found.values[-10:], true[-10:], rtol=1e-12)


def test_two_vectors_are_enough_for_the_largest_eigenvalue(digits: Tensor) -> None:
    found = lanczos(by(digits), start(digits), 80, keep_basis=False)
    true = float(torch.linalg.eigvalsh(digits)[-1])
    assert found.values[-1] == pytest.approx(true, rel=1e-13)
    assert found.values[-2] == pytest.approx(true, rel=1e-6), "no copy: is the basis kept?"
    assert found.residuals[-1] < 1e-13
    assert found.basis is None
    with pytest.raises(ArgumentError, match=r"basis, which was not kept .*keep_basis=True"):
        found.vector(-1)


@pytest.mark.parametrize("ends", ["largest", "both"])
def test_stops_where_the_ends_are_right_to_the_tolerance(ends: str) -> None:
    matrix = symmetric(120, seed=3) + 3  # one eigenvalue near 360: that end is found first
    true = torch.linalg.eigvalsh(matrix).numpy()
    found = lanczos(by(matrix), start(matrix), 120, stop=extremes_converged(1e-3, ends))
    before = lanczos(by(matrix), start(matrix), len(found.values) - 1)
    indices = [-1] if ends == "largest" else [0, -1]
    np.testing.assert_allclose(found.values[indices], true[indices], rtol=1e-3)
    assert (found.residuals <= 1e-3 * np.abs(found.values).max())[indices].all()
    assert not (before.residuals <= 1e-3 * np.abs(before.values))[indices].all()


def test_two_lucky_steps_are_not_believed() -> None:
    matrix = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0, 9.0], dtype=torch.float64))
    near_wrong = torch.tensor([0, 0, 0, 1.0, 1e-9], dtype=torch.float64) + 1e-11
    found = lanczos(by(matrix), near_wrong, 5, stop=extremes_converged(1e-3))
    assert len(found.values) == 3
    assert found.values[-1] == pytest.approx(9, rel=1e-3)


@pytest.mark.parametrize(("scale", "shift"), [(1, 7.5), (1e6, 0), (-3e-4, 1e-3), (2, -40)])
def test_shift_and_scale_of_the_operator_are_those_of_the_values(
    scale: float, shift: float
) -> None:
    matrix = symmetric(60, seed=1)
    moved = scale * matrix + shift * torch.eye(60, dtype=torch.float64)
    plain, found = (lanczos(by(one), start(one), 12) for one in (matrix, moved))
    expected = np.sort(scale * plain.values + shift)
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=1e-10 * abs(expected).max())
    residuals = abs(scale) * plain.residuals[:: 1 if scale > 0 else -1]
    np.testing.assert_allclose(found.residuals, residuals, rtol=1e-6)


def test_length_of_the_start_does_not_matter_and_it_is_left_alone() -> None:
    matrix = symmetric(30, seed=1)
    long = 1e8 * start(matrix)
    kept = long.clone()
    found = lanczos(by(matrix), long, 6)
    assert torch.equal(long, kept)
    np.testing.assert_allclose(found.values, lanczos(by(matrix), start(matrix), 6).values)


def test_negative_eigenvalues_are_the_smallest() -> None:
    matrix = symmetric(50, seed=2)
    true = torch.linalg.eigvalsh(matrix).numpy()
    found = lanczos(by(matrix), start(matrix), 40)
    assert true[0] < 0
    np.testing.assert_allclose(found.values[[0, -1]], true[[0, -1]], rtol=1e-9)


def test_float32_is_right_to_its_precision(digits: Tensor) -> None:
    found = lanczos(by(digits.float()), start(digits.float()), 20)
    true = float(torch.linalg.eigvalsh(digits)[-1])
    precision = 10 * torch.finfo(torch.float32).eps  # of sums whose order is the processor's
    assert found.values[-1] == pytest.approx(true, rel=precision)
    assert found.basis.dtype == found.vector(-1).dtype == torch.float32
    torch.testing.assert_close(found.basis @ found.basis.T, torch.eye(20), rtol=0, atol=precision)


def test_space_of_an_eigenvector_is_invariant() -> None:
    matrix = symmetric(40, seed=5)
    values, vectors = torch.linalg.eigh(matrix)
    found = lanczos(by(matrix), vectors[:, 7], 10)
    assert (len(found.values), found.last, found.residuals.tolist()) == (1, 0, [0])
    assert found.values[0] == pytest.approx(float(values[7]))
    assert abs(float(found.vector(0) @ vectors[:, 7])) == pytest.approx(1)


def test_space_of_a_low_rank_operator_is_invariant() -> None:
    matrix = low_rank(200, [-2.0, 3.0, 5.0, 8.0])
    found = lanczos(by(matrix), start(matrix), 50)
    assert len(found.values) <= 6
    assert found.last == 0
    np.testing.assert_allclose(found.values[[0, -1]], [-2, 8], rtol=1e-12)


@pytest.mark.parametrize("keep_basis", [True, False])
def test_operator_that_hands_its_argument_back(keep_basis: bool) -> None:
    vector = random_start(20, torch.float64, 0)
    found = lanczos(lambda same: same, vector, 5, keep_basis=keep_basis)
    assert found.values.tolist() == pytest.approx([1])
    if keep_basis:
        torch.testing.assert_close(found.vector(0), vector)


def test_operator_that_is_zero() -> None:
    found = lanczos(torch.zeros_like, random_start(20, torch.float64, 0), 5)
    assert (found.values.tolist(), found.last) == ([0], 0)


@pytest.mark.parametrize("size", [1, 2, 6])
def test_fewer_parameters_than_steps(size: int) -> None:
    matrix = symmetric(size, seed=4)
    found = lanczos(by(matrix), start(matrix), 30)
    np.testing.assert_allclose(found.values, torch.linalg.eigvalsh(matrix).numpy(), rtol=1e-10)
    assert found.last == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vectors_longer_than_a_chunk(dtype: torch.dtype) -> None:
    diagonal = torch.linspace(-1, 1, 40_000, dtype=dtype)
    diagonal[[5, 20_000, 39_000]] = torch.tensor([7.0, -9.0, 30.0], dtype=dtype)
    found = lanczos(lambda vector: diagonal * vector, random_start(40_000, dtype, 0), 25)
    precision = 10 * torch.finfo(dtype).eps
    np.testing.assert_allclose(found.values[[0, -2, -1]], [-9, 7, 30], rtol=precision)


def test_sums_of_float32_lose_nothing() -> None:
    tenths = torch.full((3_000_000,), 0.1)
    exact = math.sqrt(3_000_000) * float(tenths[0])
    assert norm(tenths) == pytest.approx(exact, rel=1e-13)
    assert coordinates(tenths[None], tenths)[0] == pytest.approx(exact**2, rel=1e-13)


def test_weights_are_the_starts_shares() -> None:
    matrix = symmetric(8, seed=6)
    vectors = torch.linalg.eigh(matrix)[1]
    found = lanczos(by(matrix), start(matrix), 8)
    np.testing.assert_allclose(found.weights, ((vectors.T @ start(matrix)) ** 2).numpy())
    assert found.weights.sum() == pytest.approx(1)


def test_every_step_is_one_product_and_is_told() -> None:
    matrix = symmetric(30, seed=7)
    asked: list[Tensor] = []
    told: list[Krylov] = []

    def product(vector: Tensor) -> Tensor:
        asked.append(vector.clone())
        return matrix @ vector

    found = lanczos(product, start(matrix), 9, stop=lambda krylov: told.append(krylov) or False)
    assert [len(krylov.values) for krylov in told] == list(range(1, 10))
    torch.testing.assert_close(torch.stack(asked), found.basis, rtol=0, atol=0)
    again = naive_ritz_values(matrix, start(matrix), 4)
    np.testing.assert_allclose(told[3].values, again, rtol=1e-10)


def test_random_start_is_a_direction_of_its_own_seed() -> None:
    state = torch.get_rng_state()
    first = random_start(1000, torch.float32, 3)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, random_start(1000, torch.float32, 3))
    assert abs(float(first @ random_start(1000, torch.float32, 4))) < 0.2
    assert float(first.double().norm()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("bad", "norm_of_it"), [([0.0, 0], "0.0"), ([math.nan, 1], "nan"), ([math.inf, 1], "inf")]
)
def test_start_without_a_direction_is_refused(bad: list[float], norm_of_it: str) -> None:
    with pytest.raises(ArgumentError, match=rf"start has norm {norm_of_it}: .* \(random_start"):
        lanczos(lambda vector: vector, torch.tensor(bad), 2)


def test_no_steps_are_refused() -> None:
    with pytest.raises(ArgumentError, match="0 Lanczos steps: expected at least 1"):
        lanczos(lambda vector: vector, torch.ones(3), 0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("step", [1, 3])
def test_product_that_is_not_finite_is_refused(value: float, step: int) -> None:
    matrix = symmetric(10, seed=0)
    seen: list[Tensor] = []

    def product(vector: Tensor) -> Tensor:
        seen.append(vector)
        return matrix @ vector if len(seen) < step else torch.full_like(vector, value)

    with pytest.raises(DataError, match="the loss is not a number"):
        lanczos(product, start(matrix), 5)
    assert len(seen) == step


def test_rule_that_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ArgumentError, match="ends 'smallest': expected one of largest, both"):
        extremes_converged(1e-3, "smallest")
    with pytest.raises(ArgumentError, match=r"tolerance is 0\.0: expected a number above 0"):
        extremes_converged(0.0)
