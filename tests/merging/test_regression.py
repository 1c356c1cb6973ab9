"""The regression mean against least squares over the inputs themselves, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mergekit_geo.merging.regmean import PUBLISHED, Regression
from mergekit_geo.merging.regression import regression_mean

OUT, WIDE = 5, 7
SHARES = [0.5, 0.3, 0.2]


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def weights() -> list[Tensor]:
    return [drawn(i, OUT, WIDE) for i in range(3)]


@pytest.fixture
def inputs() -> list[Tensor]:
    mix = torch.eye(WIDE, dtype=torch.float64) + 0.3 * drawn(9, WIDE, WIDE)
    return [drawn(10 + i, 40, WIDE) @ mix * (1 + i) for i in range(3)]


def gram(rows: Tensor) -> Tensor:
    return rows.T @ rows / len(rows)


def merged(weights: list[Tensor], inputs: list[Tensor], how: Regression = PUBLISHED) -> Tensor:
    return regression_mean(weights, lambda i: gram(inputs[i]), SHARES, how).weight_vw


def test_it_is_the_least_squares_fit_to_all_outputs(
    weights: list[Tensor], inputs: list[Tensor]
) -> None:
    """Equation 2 of the paper, over the inputs: Σ λ_i |X_i W - X_i W_i|² / n_i."""
    roots = [(share / len(x)) ** 0.5 for share, x in zip(SHARES, inputs, strict=True)]
    rows = torch.cat([root * x for root, x in zip(roots, inputs, strict=True)])
    pairs = zip(roots, inputs, weights, strict=True)
    targets = torch.cat([root * x @ weight.T for root, x, weight in pairs])
    expected = torch.linalg.lstsq(rows, targets).solution.T
    found = merged(weights, inputs, Regression(alpha=1))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_no_other_weight_is_nearer_to_the_outputs(
    weights: list[Tensor], inputs: list[Tensor]
) -> None:
    def distance(weight: Tensor) -> float:
        rows = zip(SHARES, inputs, weights, strict=True)
        return sum(s * float((x @ (weight - own).T).square().sum()) / len(x) for s, x, own in rows)

    found = merged(weights, inputs, Regression(alpha=1))
    mean = sum((s * w for s, w in zip(SHARES, weights, strict=True)), torch.zeros(OUT, WIDE))
    least = distance(found)
    assert all(distance(found + 1e-3 * drawn(20 + i, OUT, WIDE)) > least for i in range(20))
    assert all(distance(other) > least for other in [mean, *weights])


def test_the_formula_of_the_paper_with_shrunken_grams(
    weights: list[Tensor], inputs: list[Tensor]
) -> None:
    """W = (Σ G̃)⁻¹ Σ G̃ W with W (in, out), G̃ = α G + (1 - α) diag G (section 3.3)."""
    grams = [gram(x) for x in inputs]
    shrunk = [
        s * (0.9 * g + 0.1 * torch.diag(g.diag())) for s, g in zip(SHARES, grams, strict=True)
    ]
    total = sum(g @ w.T for g, w in zip(shrunk, weights, strict=True))
    expected = (torch.inverse(torch.stack(shrunk).sum(0)) @ total).T
    torch.testing.assert_close(merged(weights, inputs), expected, rtol=1e-10, atol=1e-10)


def test_equal_models_give_that_model_and_equal_grams_the_mean(
    weights: list[Tensor], inputs: list[Tensor]
) -> None:
    same = regression_mean(weights[:1] * 3, lambda i: gram(inputs[i]), [0.25, 0.5, 0.25])
    assert torch.equal(same.weight_vw, weights[0])
    mean = torch.stack([s * w for s, w in zip(SHARES, weights, strict=True)]).sum(0)
    for how in (Regression(), Regression(alpha=1), Regression(alpha=0), Regression(ridge=0.5)):
        torch.testing.assert_close(merged(weights, inputs[:1] * 3, how), mean)


def test_without_the_entries_off_the_diagonal_features_weigh_by_their_energy(
    weights: list[Tensor], inputs: list[Tensor]
) -> None:
    energies = torch.stack([s * gram(x).diag() for s, x in zip(SHARES, inputs, strict=True)])
    parts = torch.stack(weights) * energies[:, None]
    expected = parts.sum(0) / energies.sum(0)
    torch.testing.assert_close(merged(weights, inputs, Regression(alpha=0)), expected)


def test_the_order_of_the_models_changes_nothing(
    weights: list[Tensor], inputs: list[Tensor]
) -> None:
    turned = regression_mean(weights[::-1], lambda i: gram(inputs[2 - i]), SHARES[::-1])
    torch.testing.assert_close(turned.weight_vw, merged(weights, inputs))


def test_a_large_ridge_is_the_mean_and_a_small_one_changes_little(
    weights: list[Tensor], inputs: list[Tensor]
) -> None:
    mean = torch.stack([s * w for s, w in zip(SHARES, weights, strict=True)]).sum(0)
    torch.testing.assert_close(
        merged(weights, inputs, Regression(ridge=1e9)), mean, rtol=1e-6, atol=1e-6
    )
    near = merged(weights, inputs, Regression(ridge=1e-9))
    torch.testing.assert_close(near, merged(weights, inputs), rtol=1e-6, atol=1e-6)


def test_what_no_input_tells_of_stays_the_mean(weights: list[Tensor], inputs: list[Tensor]) -> None:
    """A feature that is always 0, and with alpha = 1 more features than rows."""
    mean = torch.stack([s * w for s, w in zip(SHARES, weights, strict=True)]).sum(0)
    silent = [x * (torch.arange(WIDE) != 2) for x in inputs]
    found = merged(weights, silent)
    torch.testing.assert_close(found[:, 2], mean[:, 2])
    assert not torch.allclose(found[:, 3], mean[:, 3])
    few = [x[:1] for x in inputs]
    solved = regression_mean(weights, lambda i: gram(few[i]), SHARES, Regression(alpha=1))
    assert solved.rank == 3
    assert solved.error < 1e-6
    for x, weight in zip(few, weights, strict=True):
        torch.testing.assert_close(x @ solved.weight_vw.T, x @ weight.T, rtol=1e-5, atol=1e-5)
    nothing = regression_mean(weights, lambda i: torch.zeros(WIDE, WIDE), SHARES)
    torch.testing.assert_close(nothing.weight_vw, mean)
    assert (nothing.rank, nothing.error) == (0, 0.0)
