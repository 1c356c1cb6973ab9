"""Trace from random products, against the trace and the paper's estimator written plainly."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mergekit_geo.curvature.lanczos import Product
from mergekit_geo.curvature.trace import hutchinson, xtrace
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.records.curvature import Trace


def by(matrix: Tensor) -> Product:
    return lambda vector: matrix @ vector


def xtrace_of(matrix: Tensor, products: int, seed: int = 0) -> Trace:
    return xtrace(by(matrix), len(matrix), matrix.dtype, products, seed)


def hutchinson_of(matrix: Tensor, products: int, seed: int = 0) -> Trace:
    return hutchinson(by(matrix), len(matrix), matrix.dtype, products, seed)


def symmetric(size: int, seed: int) -> Tensor:
    """Of random eigenvalues, negative ones too."""
    draw = torch.Generator().manual_seed(1000 + seed)
    matrix = torch.randn(size, size, dtype=torch.float64, generator=draw)
    return matrix + matrix.T


def decaying(size: int, rate: float) -> Tensor:
    """Of eigenvalues rate^i, every third one negative."""
    draw = torch.Generator().manual_seed(1000)
    basis = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=draw))[0]
    values = rate ** torch.arange(size, dtype=torch.float64)
    values[2::3] *= -1
    return basis @ torch.diag(values) @ basis.T


class Recorder:
    """A matrix that remembers what it was multiplied with."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.asked: list[Tensor] = []

    def __call__(self, vector: Tensor) -> Tensor:
        self.asked.append(vector.clone())
        return self.matrix @ vector


def naive_leave_one_out(matrix: Tensor, tests: Tensor) -> np.ndarray:
    """XTrace as the paper states it: a basis of its own for each test vector (column) left out."""
    size, count = tests.shape
    estimates = []
    for left_out in range(count):
        kept = [index for index in range(count) if index != left_out]
        basis = torch.linalg.qr(matrix @ tests[:, kept])[0]
        outer = tests[:, left_out] - basis @ (basis.T @ tests[:, left_out])
        outer *= math.sqrt(size - count + 1) / outer.norm()
        estimates.append(float((basis.T @ matrix @ basis).trace() + outer @ matrix @ outer))
    return np.array(estimates)


@pytest.mark.parametrize("products", [4, 5, 12, 31])
@pytest.mark.parametrize("kind", ["random", "decaying", "shifted", "digits"])
def test_xtrace_is_the_papers_estimator(digits: Tensor, kind: str, products: int) -> None:
    matrix = {
        "random": symmetric(40, seed=0),
        "decaying": 1e5 * decaying(40, 0.7),
        "shifted": symmetric(40, seed=1) - 9 * torch.eye(40, dtype=torch.float64),
        "digits": digits,
    }[kind]
    product = Recorder(matrix)
    found = xtrace(product, len(matrix), torch.float64, products, seed=1)
    tests = torch.stack(product.asked[: products // 2], dim=1)
    naive = naive_leave_one_out(matrix, tests)
    error = naive.std(ddof=1) / math.sqrt(len(naive))
    scale = float(matrix.norm())
    assert found.value == pytest.approx(naive.mean(), abs=1e-9 * scale)
    assert found.standard_error == pytest.approx(error, rel=1e-6, abs=1e-9 * scale)
    assert found.products == len(product.asked) == products // 2 * 2
    np.testing.assert_allclose(tests.norm(dim=0).numpy(), math.sqrt(len(matrix)))


@pytest.mark.slow
def test_trace_of_a_trained_model(digits: Tensor) -> None:
    true = float(digits.trace())
    found = [xtrace_of(digits, 99, seed) for seed in range(40)]
    errors = np.array([abs(trace.value - true) for trace in found])
    told = np.array([trace.standard_error for trace in found])
    assert np.median(errors) < 0.002 * true
    assert np.quantile(errors, 0.95) < 0.006 * true
    assert (errors < 3 * told).mean() > 0.95
    assert 0.5 < np.sqrt(np.mean(told**2) / np.mean(errors**2)) < 2


@pytest.mark.parametrize("products", [30, 60, 98])
def test_xtrace_errs_less_than_a_third_of_hutchinson(digits: Tensor, products: int) -> None:
    seeds = range(9)
    ours = [xtrace_of(digits, products, seed).standard_error for seed in seeds]
    plain = [hutchinson_of(digits, products, seed).standard_error for seed in seeds]
    assert np.median(ours) < np.median(plain) / 3


def test_hutchinson_has_the_variance_that_is_known(digits: Tensor) -> None:
    off_diagonal = digits - digits.diag().diag()
    expected = math.sqrt(2 / 40) * float(off_diagonal.norm())
    found = [hutchinson_of(digits, 40, seed) for seed in range(60)]
    values = np.array([trace.value for trace in found])
    assert abs(values.mean() - float(digits.trace())) < 3 * expected / math.sqrt(60)
    assert values.std(ddof=1) == pytest.approx(expected, rel=0.25)
    told = np.mean([trace.standard_error**2 for trace in found])
    assert math.sqrt(told) == pytest.approx(expected, rel=0.1)
    assert {(trace.products, trace.method) for trace in found} == {(40, "Hutchinson")}


def test_xtrace_has_no_bias() -> None:
    matrix = symmetric(20, seed=2) + 3 * torch.eye(20, dtype=torch.float64)
    values = np.array([xtrace_of(matrix, 8, seed).value for seed in range(250)])
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean() - float(matrix.trace())) < 3 * error


@pytest.mark.parametrize("estimate", [xtrace_of, hutchinson_of])
@pytest.mark.parametrize("scale", [1e-7, -4, 1e9])
def test_scale_of_the_operator_is_that_of_the_trace(estimate, scale: float) -> None:
    matrix = symmetric(50, seed=3)
    plain, scaled = estimate(matrix, 12), estimate(scale * matrix, 12)
    assert scaled.value == pytest.approx(scale * plain.value)
    assert scaled.standard_error == pytest.approx(abs(scale) * plain.standard_error)


@pytest.mark.parametrize("estimate", [xtrace_of, hutchinson_of])
def test_multiple_of_the_identity_is_exact(estimate) -> None:
    found = estimate(-2.5 * torch.eye(50, dtype=torch.float64), 10)
    assert found.value == pytest.approx(-125, rel=1e-13)
    assert found.standard_error < 1e-11


@pytest.mark.parametrize("shift", [-30.0, 0.5])
def test_shifted_operator_keeps_an_honest_error(digits: Tensor, shift: float) -> None:
    matrix = digits + shift * torch.eye(650, dtype=torch.float64)
    found = [xtrace_of(matrix, 60, seed) for seed in range(15)]
    true = float(matrix.trace())
    assert np.mean([abs(one.value - true) < 3 * one.standard_error for one in found]) > 0.9


def test_seed_decides() -> None:
    matrix = symmetric(50, seed=4)
    assert xtrace_of(matrix, 12, seed=1) == xtrace_of(matrix, 12, seed=1)
    assert xtrace_of(matrix, 12, seed=1).value != xtrace_of(matrix, 12, seed=2).value


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [0, 1, 4, 9])
def test_low_rank_is_exact_and_takes_fewer_products(rank: int, dtype: torch.dtype) -> None:
    matrix = symmetric(300, seed=5)[:, :rank]
    matrix = matrix @ torch.diag(torch.linspace(-1, 2, rank, dtype=torch.float64)) @ matrix.T
    found = xtrace_of(matrix.to(dtype), 60)
    precision = 100 * torch.finfo(dtype).eps * float(matrix.norm())
    assert found.value == pytest.approx(float(matrix.trace()), abs=precision)
    assert found.standard_error <= precision
    assert found.products < 40


@pytest.mark.parametrize("noise", [1e-14, 1e-6])
def test_low_rank_with_rounding_in_the_products_is_as_exact_as_they_are(noise: float) -> None:
    columns = symmetric(300, seed=6)[:, :5]
    matrix, draw = columns @ columns.T, torch.Generator().manual_seed(0)

    def product(vector: Tensor) -> Tensor:
        exact = matrix @ vector
        return exact + noise * exact.norm() / 17 * torch.randn(300, generator=draw).double()

    found = xtrace(product, 300, torch.float64, 60, seed=0)
    assert found.value == pytest.approx(float(matrix.trace()), rel=100 * noise)
    assert found.standard_error < 100 * noise * found.value
    assert found.products == 60


@pytest.mark.parametrize(("size", "products"), [(1, 4), (4, 4), (9, 60)])
def test_few_parameters_are_exact_with_no_more_products_than_needed(
    size: int, products: int
) -> None:
    product = Recorder(symmetric(size, seed=7))
    found = xtrace(product, size, torch.float64, products, seed=0)
    assert found.value == pytest.approx(float(product.matrix.trace()), rel=1e-13)
    assert (found.standard_error, found.method) == (0, "exact")
    assert found.products == len(product.asked) == size


@pytest.mark.parametrize("size", [5, 6, 7])
def test_few_parameters_more_than_products(size: int) -> None:
    matrix = symmetric(size, seed=8)
    product = Recorder(matrix)
    found = xtrace(product, size, torch.float64, size - 1, seed=0)
    naive = naive_leave_one_out(matrix, torch.stack(product.asked[: (size - 1) // 2], dim=1))
    assert found.value == pytest.approx(naive.mean(), rel=1e-9)


def test_float32_costs_only_its_precision(digits: Tensor) -> None:
    product = Recorder(digits.float())
    found = xtrace(product, 650, torch.float32, 60, seed=0)
    naive = naive_leave_one_out(digits, torch.stack(product.asked[:30], dim=1).double())
    assert found.value == pytest.approx(naive.mean(), rel=1e-4)
    assert {vector.dtype for vector in product.asked} == {torch.float32}
    assert hutchinson_of(digits.float(), 20).value == pytest.approx(
        hutchinson_of(digits, 20).value, rel=1e-6
    )


@pytest.mark.parametrize("estimate", [xtrace_of, hutchinson_of])
def test_too_few_products_are_refused(estimate) -> None:
    with pytest.raises(ArgumentError, match="trace from 3 products: expected at least 4"):
        estimate(symmetric(10, seed=0), 3)


@pytest.mark.parametrize("estimate", [xtrace_of, hutchinson_of])
@pytest.mark.parametrize("size", [5, 50])
def test_product_that_is_not_finite_is_refused(estimate, size: int) -> None:
    with pytest.raises(DataError, match="the loss is not a number"):
        estimate(torch.full((size, size), math.nan), 8)
