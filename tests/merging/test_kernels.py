"""The kernels on single chunks: every bit pattern, every dtype, and the two ways to run them."""

import numpy as np
import pytest
import torch

from mergekit_geo.checkpoints.dtypes import TORCH_DTYPES, bytes_of
from mergekit_geo.merging.kernels import EXPONENTS, Chunk, Kernel
from mergekit_geo.merging.native import NativeKernel
from mergekit_geo.merging.torch_kernel import TorchKernel

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
KERNELS = [NativeKernel(), *map(TorchKernel, DEVICES)]


@pytest.fixture(params=KERNELS, ids=["native", *DEVICES])
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return request.param  # type: ignore[no-any-return]


def chunk(tensor: torch.Tensor, dtype: str) -> Chunk:
    return Chunk(bytes_of(tensor.to(TORCH_DTYPES[dtype]).contiguous()), dtype)


def empty(count: int, dtype: str) -> Chunk:
    return Chunk(np.empty(count * EXPONENTS[dtype].itemsize, np.uint8), dtype)


def values(found: Chunk) -> torch.Tensor:
    return torch.from_numpy(found.data).view(TORCH_DTYPES[found.dtype])


def every_half(dtype: str) -> torch.Tensor:
    return torch.arange(1 << 16).to(torch.uint16).view(TORCH_DTYPES[dtype])


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_every_half_survives_the_way_through_float64(kernel: Kernel, dtype: str) -> None:
    half = every_half(dtype)
    wide = empty(1 << 16, "F64")
    kernel.combine([chunk(half, dtype)], [1.0], wide)
    assert values(wide)[~half.isnan()].equal(half.double()[~half.isnan()])
    assert values(wide).isnan().equal(half.isnan())
    back = empty(1 << 16, dtype)
    kernel.combine([wide], [1.0], back)
    assert (
        values(back).view(torch.int16)[~half.isnan()].equal(half.view(torch.int16)[~half.isnan()])
    )
    assert values(back).isnan().equal(half.isnan())


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_halves_are_rounded_once(kernel: Kernel, dtype: str) -> None:
    """On a tie between two neighbours, and a float64 hair beside it, where two roundings err."""
    half = every_half(dtype)
    size = half.abs()[half.isfinite() & (half.double().abs() < torch.finfo(half.dtype).max)]
    size = size[size > 0]  # half the smallest BF16 has no bits to spare in the float32 between
    above = torch.nextafter(size, torch.full_like(size, torch.inf))
    tie = (size.double() + above.double()) / 2
    even = torch.where(size.view(torch.int16) % 2 == 0, size, above)
    for exact, expected in [
        (tie, even),
        (tie * (1 - 2**-40), size),
        (tie * (1 + 2**-40), above),
        (-tie * (1 + 2**-40), -above),
    ]:
        out = empty(len(size), dtype)
        kernel.combine([chunk(exact, "F64")], [1.0], out)
        assert values(out).equal(expected)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_too_large_becomes_infinite(kernel: Kernel, dtype: str) -> None:
    most = torch.finfo(TORCH_DTYPES[dtype]).max
    out = empty(3, dtype)
    kernel.combine([chunk(torch.tensor([1.0, -1.0, 0.5]) * 2, "F64")], [most], out)
    assert values(out).tolist() == [torch.inf, -torch.inf, most]
    assert out.nonfinite == 2


@pytest.mark.parametrize("dtypes", [("BF16",) * 3, ("F16", "F32", "BF16"), ("F64", "F16")])
@pytest.mark.parametrize("out", ["F16", "BF16", "F32", "F64"])
@pytest.mark.parametrize("count", [1, 255, 1000])
def test_both_kernels_agree(dtypes: tuple[str, ...], out: str, count: int) -> None:
    """To the bit; where float32 sums halves, a sum near a tie may be rounded to the other side."""
    draw = torch.Generator().manual_seed(count)
    anchors = [chunk(torch.randn(count, generator=draw), dtype) for dtype in dtypes]
    weights = [0.7, -0.3, 0.6][: len(dtypes)]
    results = [empty(count, out) for _ in KERNELS]
    grams = [
        kernel.combine_and_gram(anchors, weights, result).differences
        for kernel, result in zip(KERNELS, results, strict=True)
    ]
    halves = {*dtypes, out} <= {"BF16", "F16"}
    native, by_torch = values(results[0]), values(results[-1])
    assert (native != by_torch).double().mean() <= (0.01 if halves else 0)
    torch.testing.assert_close(native, by_torch, rtol=torch.finfo(native.dtype).eps, atol=0)
    np.testing.assert_allclose(grams[0], grams[-1], rtol=1e-5 if halves else 1e-12, atol=1e-12)
    for kernel, gram in zip(KERNELS, grams, strict=True):
        found = kernel.gram(anchors)
        np.testing.assert_allclose(found.differences, grams[1], rtol=1e-12, atol=1e-12)
        assert np.allclose(gram, gram.T)
        assert found.count == count


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_terms_that_cancel_are_summed_in_float64(kernel: Kernel, dtype: str) -> None:
    """1 + x - 1 for small x: float32 would lose x."""
    draw = torch.Generator().manual_seed(0)
    one = torch.ones(1000)
    small = torch.randn(1000, generator=draw) * 2**-10
    anchors = [chunk(row, dtype) for row in (one, small, one)]
    out = empty(1000, dtype)
    kernel.combine(anchors, [1.0, 2**-12, -1.0], out)
    expected = (values(anchors[1]).double() * 2**-12).to(TORCH_DTYPES[dtype])
    assert values(out).equal(expected)


def test_zero_coefficients_leave_infinities_out(kernel: Kernel) -> None:
    bad = chunk(torch.tensor([torch.nan, torch.inf]), "F32")
    out = empty(2, "F32")
    kernel.combine([bad, chunk(torch.tensor([-0.0, 2.0]), "F32")], [0.0, 1.0], out)
    assert values(out).tolist() == [0, 2]
    assert values(out).signbit().tolist() == [True, False]
    kernel.combine([bad, bad], [0.0, 0.0], out)
    assert values(out).tolist() == [0, 0]


def test_many_anchors(kernel: Kernel) -> None:
    rows = torch.randn(40, 700, dtype=torch.float64)
    anchors = [chunk(row, "F64") for row in rows]
    gram = kernel.gram(anchors)
    differences = torch.cat([rows[:1], rows[1:] - rows[0]])
    np.testing.assert_allclose(gram.differences, differences @ differences.T, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize(("rows", "width"), [(1, 700), (13, 37), (5, 300), (50, 1)])
def test_rows_are_each_as_if_alone(kernel: Kernel, dtype: str, rows: int, width: int) -> None:
    draw = torch.Generator().manual_seed(rows)
    anchors = [chunk(torch.randn(rows * width, generator=draw), dtype) for _ in range(3)]
    factors = torch.randn(rows, 3, generator=draw, dtype=torch.float64).numpy()
    factors[0, 1] = 0.0
    found, out = kernel.grams(anchors, width, dtype), empty(rows * width, dtype)
    kernel.combine_rows(anchors, factors, out)
    for row in range(rows):
        ends = row * width, (row + 1) * width
        parts, alone = [anchor.part(*ends) for anchor in anchors], empty(width, dtype)
        kernel.combine(parts, factors[row].tolist(), alone)
        assert values(out.part(*ends)).equal(values(alone))
        gram = kernel.gram(parts, dtype).differences
        np.testing.assert_allclose(found[row], gram, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["F16", "F32", "F64"])
def test_a_chunk_turned_about_twice_is_itself(dtype: str) -> None:
    one = chunk(torch.arange(35), dtype)
    assert values(one.transposed(5)).view(5, 7).equal(values(one).view(7, 5).T)
    assert values(one.transposed(5).transposed(7)).equal(values(one))
