"""Distribution of eigenvalues by quadrature, against all the eigenvalues."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mergekit_geo.curvature.lanczos import Product, random_start
from mergekit_geo.curvature.spectrum import Quadrature, probe, share_below, spectrum
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.records.curvature import Spectrum


def by(matrix: Tensor) -> Product:
    return lambda vector: matrix @ vector


def probes_of(matrix: Tensor, steps: int, count: int = 5, seed: int = 0) -> list[Quadrature]:
    return [
        probe(by(matrix), len(matrix), matrix.dtype, steps, seed + index) for index in range(count)
    ]


def symmetric(size: int, seed: int) -> Tensor:
    """Of random eigenvalues, negative ones too."""
    draw = torch.Generator().manual_seed(1000 + seed)
    matrix = torch.randn(size, size, dtype=torch.float64, generator=draw)
    return matrix + matrix.T


def share_up_to(matrix: Tensor, positions: np.ndarray) -> np.ndarray:
    true = torch.linalg.eigvalsh(matrix).numpy()
    return (true[:, None] <= positions).mean(axis=0)


def distance(found: Spectrum, matrix: Tensor, tolerance: float) -> float:
    """Kolmogorov's, not told where a step of the true distribution lies within the tolerance."""
    below = share_up_to(matrix, np.array(found.eigenvalues) - tolerance) - found.cumulative
    above = found.cumulative - share_up_to(matrix, np.array(found.eigenvalues) + tolerance)
    return float(np.maximum(below, above).max())


@pytest.mark.parametrize(("steps", "furthest"), [(20, 0.05), (60, 0.02)])
def test_distribution_of_a_trained_model(digits: Tensor, steps: int, furthest: float) -> None:
    found = spectrum(probes_of(digits, steps))
    true = torch.linalg.eigvalsh(digits).numpy()
    assert distance(found, digits, tolerance=1e-3 * true[-1]) < furthest
    assert found.eigenvalues[-1] == pytest.approx(true[-1], rel=1e-12)
    assert found.eigenvalues[0] == pytest.approx(true[0], abs=1e-3 * true[-1])
    assert (np.diff(found.eigenvalues) > 0).all()
    assert (np.diff(found.cumulative) >= 0).all()
    assert found.cumulative[-1] == pytest.approx(1)
    assert (found.probes, found.steps) == (5, steps)


def test_band_holds_the_distribution_nearly_everywhere(digits: Tensor) -> None:
    tolerance = 1e-3 * float(torch.linalg.eigvalsh(digits)[-1])
    inside = []
    for seed in range(4):
        found = spectrum(probes_of(digits, 40, seed=100 * seed))
        positions = np.array(found.eigenvalues)
        below = share_up_to(digits, positions - tolerance) <= np.array(found.high) + 1e-12
        above = share_up_to(digits, positions + tolerance) >= np.array(found.low) - 1e-12
        inside.append((below & above).mean())
    assert np.mean(inside) > 0.95


def test_outliers_and_bulk_are_both_on_the_grid(digits: Tensor) -> None:
    found = spectrum(probes_of(digits, 60), points=61)
    true = torch.linalg.eigvalsh(digits).numpy()
    outliers = true[-8:, None]
    assert (np.abs(found.eigenvalues - outliers).min(axis=1) < 1e-6 * outliers[:, 0]).all()
    assert np.sum(found.eigenvalues < np.median(true) * 2) >= 3
    assert len(found.eigenvalues) <= 61


@pytest.mark.parametrize("steps", [1, 3, 9])
def test_quadrature_is_exact_for_polynomials(steps: int) -> None:
    matrix = symmetric(40, seed=0) / 10
    start = random_start(40, torch.float64, 5)
    found = probe(by(matrix), 40, torch.float64, steps, seed=5)
    power = start
    for degree in range(2 * steps):
        moment = float(found.weights @ found.nodes**degree)
        assert moment == pytest.approx(float(start @ power), rel=1e-9, abs=1e-10)
        power = matrix @ power


def test_all_steps_give_the_starts_own_measure() -> None:
    matrix = symmetric(12, seed=1)
    values, vectors = torch.linalg.eigh(matrix)
    found = probe(by(matrix), 12, torch.float64, 99, seed=2)
    np.testing.assert_allclose(found.nodes, values.numpy(), rtol=1e-9)
    shares = (vectors.T @ random_start(12, torch.float64, 2)) ** 2
    np.testing.assert_allclose(found.weights, shares.numpy(), atol=1e-10)


def test_cumulative_is_the_mean_of_the_probes_step_functions() -> None:
    probes = probes_of(symmetric(30, seed=2), 6, count=3)
    found = spectrum(probes)
    for position, share in zip(found.eigenvalues, found.cumulative, strict=True):
        naive = np.mean([one.weights[one.nodes <= position].sum() for one in probes])
        assert share == pytest.approx(naive)


def test_band_is_students() -> None:
    shares = np.array([0.5, 0.4, 0.6])
    probes = [Quadrature(np.array([0.0, 1.0]), np.array([share, 1 - share])) for share in shares]
    found = spectrum(probes)
    margin = 4.302652729911275 * shares.std(ddof=1) / math.sqrt(3)  # t of 2 degrees, 97.5 %
    np.testing.assert_allclose(found.low, [0.5 - margin, 1])
    np.testing.assert_allclose(found.high, [0.5 + margin, 1])


def test_band_stays_between_none_and_all() -> None:
    probes = [Quadrature(np.array([0.0, 1.0]), np.array([x, 1 - x])) for x in (0.01, 0.9)]
    found = spectrum(probes)
    assert (found.low[0], found.high[0]) == (0, 1)


def test_copies_of_one_eigenvalue_are_a_single_step() -> None:
    half = np.array([0.5, 0.5])
    probes = [Quadrature(np.array([1.0, 2.0]) + i * 1e-15, half) for i in range(-3, 4)]
    found = spectrum(probes)
    np.testing.assert_allclose(found.eigenvalues, [1, 2])
    np.testing.assert_allclose(found.cumulative, half.cumsum())


def test_single_probe_has_no_band() -> None:
    found = spectrum(probes_of(symmetric(30, seed=2), 6, count=1))
    assert (found.low, found.high, found.probes) == (None, None, 1)


@pytest.mark.parametrize(("scale", "shift"), [(1, 12.5), (1e6, 0), (1e-5, -3e-4)])
def test_shift_and_scale_of_the_operator_move_the_grid_alone(scale: float, shift: float) -> None:
    matrix = symmetric(60, seed=3)
    moved = scale * matrix + shift * torch.eye(60, dtype=torch.float64)
    plain, found = (spectrum(probes_of(one, 10)) for one in (matrix, moved))
    expected = scale * np.array(plain.eigenvalues) + shift
    atol = 1e-9 * np.abs(expected).max()
    np.testing.assert_allclose(found.eigenvalues, expected, rtol=0, atol=atol)
    np.testing.assert_allclose(found.cumulative, plain.cumulative, atol=1e-8)
    np.testing.assert_allclose(found.high, plain.high, atol=1e-7)


def test_negative_eigenvalues_have_their_share() -> None:
    matrix = symmetric(300, seed=4) - 10 * torch.eye(300, dtype=torch.float64)
    found = spectrum(probes_of(matrix, 60, count=10))
    assert distance(found, matrix, tolerance=1.0) < 0.03


def test_low_rank_leaves_its_share_at_zero() -> None:
    columns = symmetric(400, seed=5)[:, :8]
    found = spectrum(probes_of(columns @ columns.T, 60, count=20))
    at_zero = np.array(found.cumulative)[np.array(found.eigenvalues) < 1e-6][-1]
    assert at_zero == pytest.approx(392 / 400, abs=0.01)


def test_float32_is_close_to_float64(digits: Tensor) -> None:
    found = spectrum(probes_of(digits.float(), 40))
    assert distance(found, digits, tolerance=2e-4) < 0.03


def test_trace_is_hutchinsons_of_the_same_starts(digits: Tensor) -> None:
    probes = probes_of(digits, 12, count=4, seed=7)
    starts = [random_start(650, torch.float64, seed) for seed in range(7, 11)]
    naive = 650 * np.mean([float(start @ digits @ start) for start in starts])
    assert 650 * np.mean([one.mean for one in probes]) == pytest.approx(naive, rel=1e-12)


def test_fewer_parameters_than_steps() -> None:
    found = spectrum(probes_of(symmetric(3, seed=6), 50, count=2))
    assert found.steps == 3
    assert found.cumulative[-1] == pytest.approx(1)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ArgumentError, match="a spectrum of no probes: expected at least 1"):
        spectrum([])
    with pytest.raises(ArgumentError, match="a grid of 1 points: expected at least 2"):
        spectrum(probes_of(symmetric(5, seed=0), 3), points=1)
    with pytest.raises(ArgumentError, match="0 Lanczos steps: expected at least 1"):
        probes_of(symmetric(5, seed=0), 0)


def test_product_that_is_not_finite_is_refused() -> None:
    with pytest.raises(DataError, match="the loss is not a number"):
        probes_of(torch.full((9, 9), math.inf), 3)


@pytest.mark.parametrize("tau", [0.0, 3.0])
@pytest.mark.slow
def test_share_of_negative_eigenvalues_is_in_its_band(tau: float) -> None:
    """In 95 % of samples of probes, a little less as a step of the quadrature is between two."""
    matrix = symmetric(80, seed=3)
    true, held = float(share_up_to(matrix, np.array([-tau]))[0]), 0
    for seed in range(40):
        found = share_below(probes_of(matrix, 40, seed=10 * seed), tau)
        assert found.low <= found.share <= found.high
        held += found.low - 0.01 <= true <= found.high + 0.01
    assert held >= 36


def test_share_is_exact_where_one_start_tells_all() -> None:
    diagonal = torch.diag(torch.tensor([-2.0, -2.0, -1e-9, 3.0], dtype=torch.float64))
    one = Quadrature(np.array([-2.0, 0.0, 3.0]), np.array([0.5, 0.25, 0.25]))
    assert share_below([one], 0.1).model_dump() == {
        "tau": 0.1, "share": 0.5, "standard_error": None, "low": None, "high": None,
    }  # fmt: skip
    found = share_below(probes_of(diagonal, 4, count=200), 0.1)
    assert found.share == pytest.approx(0.5, abs=3 * found.standard_error)
    with pytest.raises(ArgumentError, match="a share of no probes"):
        share_below([], 0.1)
