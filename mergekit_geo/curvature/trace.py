"""Sum of the eigenvalues of a symmetric operator, from its products with random vectors.

XTrace (Epperly, Tropp and Webber 2024) takes the trace on the space that the products span exactly,
and estimates only the rest. Each test vector is left out of the space in turn, so that it can tell
of the rest without bias, and all of them do both. Hutchinson (1990) needs next to no memory.

Axes: k test vectors, r <= k rows of the basis, n parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from scipy.linalg import solve_triangular
from torch import Tensor

from mergekit_geo.curvature.lanczos import Product, multiply, rounding
from mergekit_geo.curvature.measure import LocalLoss, Measure
from mergekit_geo.errors import ArgumentError
from mergekit_geo.modules.vectors import Floats, coordinates, norm, orthogonalise
from mergekit_geo.records.curvature import Trace

FEWEST_PRODUCTS = 4
LEAST = 1e-6
"""Squared length of the outer part of a test vector, as a share: guards a division by zero."""


def xtrace(product: Product, size: int, dtype: torch.dtype, products: int, seed: int) -> Trace:
    """XTrace with the normalised test vectors of Epperly, Tropp and Webber (2024, section 2.3).

    Half of the products make a basis, the other half go through it. It takes k = products // 2
    vectors of memory; the test vectors are drawn again where they are needed. With n products or
    more, the diagonal is summed instead.

    Args:
        product: The operator.
        size: n.
        dtype: Of its vectors, float32 or float64.
        products: At most so many.
        seed: Of the test vectors, which are uniform on the sphere of radius sqrt(n).

    Raises:
        ArgumentError: Fewer than 4 products.
        DataError: A product is not finite.

    Example:
        >>> ones = torch.ones(9, 9, dtype=torch.float64)
        >>> trace = xtrace(lambda vector: ones @ vector, 9, torch.float64, products=8, seed=0)
        >>> round(trace.value, 9), round(trace.standard_error, 9), trace.products
        (9.0, 0.0, 3)
    """
    _check(products)
    if products >= size:
        return _diagonal_sum(product, size, dtype)
    count = products // 2
    room_kn = torch.empty((count, size), dtype=dtype)
    basis_rn, factor_rk = _sketch(product, _sphere(size, dtype, count, seed), room_kn)
    tests = _sphere(size, dtype, factor_rk.shape[1], seed)
    inside_rk = np.stack([coordinates(basis_rn, test) for test in tests], axis=1)
    estimates = _left_out(factor_rk, inside_rk, _compressed(product, basis_rn), size)
    return _mean(estimates, sum(factor_rk.shape), "XTrace")


def hutchinson(product: Product, size: int, dtype: torch.dtype, products: int, seed: int) -> Trace:
    """Mean of x^T A x over vectors of random signs (Hutchinson 1990), one vector of memory.

    Its variance is 2 |A - diag A|_F^2 / products.

    Args:
        product: The operator.
        size: n.
        dtype: Of its vectors, float32 or float64.
        products: Exactly so many.
        seed: Of the signs.

    Raises:
        ArgumentError: Fewer than 4 products.
        DataError: A product is not finite.

    Example:
        >>> hutchinson(lambda vector: 2 * vector, 5, torch.float64, products=4, seed=0).value
        10.0
    """
    _check(products)
    draw = torch.Generator().manual_seed(seed)
    estimates = np.zeros(products)
    for index in range(products):
        signs = torch.empty(size, dtype=dtype).bernoulli_(0.5, generator=draw).mul_(2).sub_(1)
        estimates[index] = coordinates(signs[None], multiply(product, signs))[0]
    return _mean(estimates, products, "Hutchinson")


def _check(products: int) -> None:
    if products < FEWEST_PRODUCTS:
        raise ArgumentError(
            f"a trace from {products} products: expected at least {FEWEST_PRODUCTS}"
        )


def _diagonal_sum(product: Product, size: int, dtype: torch.dtype) -> Trace:
    total = 0.0
    for index in range(size):
        unit = torch.zeros(size, dtype=dtype)
        unit[index] = 1.0
        total += float(multiply(product, unit)[index])
    return Trace(value=total, standard_error=0.0, products=size, method="exact")


def _sphere(size: int, dtype: torch.dtype, count: int, seed: int) -> Iterator[Tensor]:
    """The test vectors, of norm sqrt(n), one after another."""
    draw = torch.Generator().manual_seed(seed)
    for _ in range(count):
        vector = torch.randn(size, dtype=dtype, generator=draw)
        yield vector.mul_(math.sqrt(size) / norm(vector))


def _sketch(product: Product, tests: Iterable[Tensor], room_kn: Tensor) -> tuple[Tensor, Floats]:
    """Basis Q (r, n) of the products, and R (r, k) with products Y = Q^T R.

    It ends with a product that lies in the span of those before, k = r + 1: then, with probability
    one, so does every other, and the space holds all of A.
    """
    factor = np.zeros((len(room_kn), len(room_kn)))
    for row, test in enumerate(tests):
        vector = multiply(product, test)
        whole = norm(vector)
        factor[:row, row] = orthogonalise(room_kn[:row], vector)
        factor[row, row] = norm(vector)
        if factor[row, row] <= rounding(vector.dtype) * whole:
            return room_kn[:row], factor[:row, : row + 1]
        torch.div(vector, factor[row, row], out=room_kn[row])
    return room_kn, factor


def _compressed(product: Product, basis_rn: Tensor) -> Floats:
    """Q A Q^T, made symmetric: (r, r)."""
    core = np.zeros((len(basis_rn), len(basis_rn)))
    for index, row in enumerate(basis_rn):
        core[index] = coordinates(basis_rn, multiply(product, row))
    return (core + core.T) / 2


def _left_out(factor_rk: Floats, inside_rk: Floats, core_rr: Floats, size: int) -> Floats:
    """Estimate of the trace from each test vector, left out of the basis: (k,).

    Without vector i the space is what is orthogonal to s_i in it. With x_i the part of the vector
    outside of that, and A omega_i = Q^T R_i, all that the estimate needs is here:
    tr(core) - s_i^T core s_i + (n - k + 1) x_i^T A x_i / |x_i|^2.
    """
    lost = _lost(factor_rk)
    inside = inside_rk - lost * (lost * inside_rk).sum(axis=0)
    outside = (inside_rk - 2 * inside) * factor_rk + inside * (core_rr @ inside)
    length = np.maximum(size - (inside**2).sum(axis=0), LEAST * size)
    share = (size - factor_rk.shape[1] + 1) / length
    spanned = np.trace(core_rr) - (lost * (core_rr @ lost)).sum(axis=0)
    return np.asarray(spanned + share * outside.sum(axis=0))


def _lost(factor_rk: Floats) -> Floats:
    """The direction s_i that leaves the space with each test vector, a unit column or 0: (r, k).

    It is orthogonal to every other column of R. With more vectors than directions, none leaves.
    """
    count, vectors = factor_rk.shape
    if count < vectors:
        return np.zeros_like(factor_rk)
    inverse = solve_triangular(factor_rk, np.eye(count), trans="T")
    return np.asarray(inverse / np.linalg.norm(inverse, axis=0))


def _mean(estimates: Floats, products: int, method: str) -> Trace:
    count = len(estimates)
    error = float(estimates.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    value = float(estimates.mean())
    return Trace(value=value, standard_error=error, products=products, method=method)


def _trace(at: LocalLoss) -> Trace:
    products, weights = at.level.trace_products, at.loss.weights
    estimate = xtrace if at.fits(products) else hutchinson
    return estimate(at.hessian.product, weights.size, weights.dtype, products, at.seed)


TRACE = Measure(
    "trace",
    _trace,
    Trace,
    when=lambda level: level.trace_products > 0,
    cost=lambda level: level.product * level.trace_products,
)
