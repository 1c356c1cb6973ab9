"""Merging element by element, beside naive whole-tensor references written from the papers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mergekit_geo.checkpoints.in_torch import TORCH_DTYPES
from mergekit_geo.checkpoints.memory import MemoryCheckpoint
from mergekit_geo.geometry.masked import (
    Keep,
    Largest,
    Masked,
    Middle,
    Random,
    Ranked,
    Sce,
    Spread,
)  # fmt: skip
from mergekit_geo.merging import masked, tensor
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.mask_kernel import MaskKernel
from mergekit_geo.merging.masks import seed_of
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.native_masks import NativeMasks
from mergekit_geo.merging.plain_masks import PlainMasks, numbers
from mergekit_geo.merging.stream import stream
from mergekit_geo.merging.tensor import TensorRecord

SHAPES = {
    "layers.0.w": (37, 53),
    "layers.1.w": (64, 64),
    "bias": (301,),
    "one": (1,),
    "cube": (3, 5, 7),
}
WEIGHTS = (0.75, -0.25, 0.5)
"""Exact in any dtype, so that sums that cancel are zero for everybody."""

State = dict[str, Tensor]


@pytest.fixture(params=[NativeMasks(), PlainMasks()], ids=["native", "plain"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MaskKernel:
    """Short stretches, so that every tensor has several."""
    monkeypatch.setattr(masked, "mask_kernel", lambda: request.param)
    monkeypatch.setattr(tensor, "STRETCH", 500)
    return request.param  # type: ignore[no-any-return]


def family(dtype: str, count: int = 4, seed: int = 0, scale: float = 0.01) -> list[State]:
    """A base and fine-tunes of it."""
    generator = torch.Generator().manual_seed(seed)
    base = {n: torch.randn(s, generator=generator) for n, s in SHAPES.items()}
    models = [base]
    for _ in range(count - 1):
        noise = {n: scale * torch.randn(s, generator=generator) for n, s in SHAPES.items()}
        models.append({n: base[n] + noise[n] for n in base})
    return [{n: t.to(TORCH_DTYPES[dtype]) for n, t in model.items()} for model in models]


def merged(
    rule: Masked | Sce, models: list[State], workers: int = 2, dtype: str | None = None
) -> tuple[State, dict[str, TensorRecord]]:
    blend = Blend(
        tuple(MemoryCheckpoint(model, f"m{i}") for i, model in enumerate(models)), rule, dtype
    )
    sink = MemorySink(blend)
    advanced: list[int] = []
    records = stream(blend, sink, workers=workers, advance=advanced.append)
    assert sum(advanced) == blend.work()
    return sink.state, records


# The references: whole tensors in float64, sorted


def kept(keep: Keep, vector: Tensor, name: str, model: int, seed: int) -> Tensor:
    """One where an element is kept."""
    count, size = vector.numel(), vector.abs().float().flatten()
    mask, share = torch.zeros(count), int(keep.density * count)
    if keep.density == 1:
        return torch.ones_like(vector)
    if isinstance(keep, Largest):
        mask[size.sort(descending=True, stable=True).indices[: max(1, share)]] = 1
    elif isinstance(keep, Middle):
        least = max(0, count - share - int(keep.gamma * count))
        mask[size.sort(stable=True).indices[least : least + share]] = 1
    else:
        drawn = numbers(seed_of(f"{seed} {model} {name}"), 0, count)
        mask = torch.from_numpy(drawn / 2**32 < chances(keep, vector))
    return mask.reshape(vector.shape).double()


def chances(keep: Keep, vector: Tensor) -> "np.ndarray[tuple[int], np.dtype[np.float64]] | float":
    if not isinstance(keep, Ranked):
        return keep.density
    size = vector.abs().float().reshape(-1, vector.shape[-1])
    rank = size.argsort(dim=1, stable=True).argsort(dim=1).double()
    share = rank / (rank.shape[1] - 1) if rank.shape[1] > 1 else torch.full_like(rank, 0.5)
    return (keep.density + (2 * share - 1) * keep.epsilon).flatten().numpy()


def naive(rule: Masked, models: list[State], name: str) -> Tensor:
    base, *others = (model[name].double() for model in models)
    weights = torch.tensor(rule.step, dtype=torch.float64).view(-1, *[1] * base.dim())
    rows = []
    for j, (other, keep) in enumerate(zip(others, rule.keeps, strict=True)):
        vector = other - base
        mask = kept(keep, vector, name, j, rule.seed)
        left = (vector * mask).abs().sum()
        grown = vector.abs().sum() / left if rule.rescale and left > 0 else 1.0
        rows.append(vector * mask * grown)
    weighted = torch.stack(rows) * weights
    agrees = torch.ones_like(weighted)
    if rule.elect:
        sign = torch.where(weighted.sum(0) >= 0, 1.0, -1.0)
        agrees = (weighted.sign() == sign).double()
    total = (weighted * agrees).sum(0)
    divisor = (weights * agrees).sum(0)
    if rule.normalize:
        total = total / torch.where(divisor == 0, 1.0, divisor)
    return base + rule.scale * total


def naive_sce(rule: Sce, models: list[State], name: str) -> Tensor:
    base, *others = (model[name].double() for model in models)
    vectors = torch.stack([other - base for other in others])
    if rule.select.density < 1:
        variance = vectors.var(dim=0, unbiased=False).float()
        share = int(rule.select.density * int((variance > 0).sum()))
        mask = torch.zeros(variance.numel())
        mask[variance.flatten().sort(descending=True, stable=True).indices[:share]] = 1
        vectors = vectors * mask.reshape(variance.shape)
    squares = vectors.flatten(1).square().mean(1)
    weights = squares / squares.sum() if squares.sum() >= 1e-6 else torch.full_like(squares, 1 / 3)
    sign = torch.where(vectors.sum(0) >= 0, 1.0, -1.0)
    shares = (vectors.sign() == sign) * weights.view(-1, *[1] * base.dim())
    divisor = shares.sum(0)
    return base + (vectors * shares).sum(0) / torch.where(divisor == 0, 1.0, divisor)


def assert_rounded(found: Tensor, exact: Tensor, dtype: str) -> None:
    """Within one unit in the last place, or where terms cancel, of the exact result."""
    assert found.dtype == TORCH_DTYPES[dtype]
    unit, small = torch.finfo(found.dtype).eps, {"F16": 6e-8, "F64": 1e-15}.get(dtype, 1e-9)
    torch.testing.assert_close(found.double(), exact, rtol=unit, atol=small)


KEEPS: dict[str, Callable[[float], Keep]] = {
    "all": lambda density: Keep(1.0),
    "largest": Largest,
    "middle": lambda density: Middle(density, 0.05),
    "random": Random,
    "ranked": lambda density: Ranked(density, 0.1),
}


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64"])
@pytest.mark.parametrize(
    ("rescale", "elect", "normalize"),
    [(False, True, True), (True, True, False), (True, False, False), (False, False, True)],
)
def test_a_merge_is_the_naive_one(
    kernel: MaskKernel, keep: str, dtype: str, rescale: bool, elect: bool, normalize: bool
) -> None:
    models = family(dtype)
    keeps = tuple(KEEPS[keep](density) for density in (0.3, 0.5, 0.85))
    rule = Masked("x", WEIGHTS, keeps, rescale, elect, normalize, scale=0.9, seed=3)
    state, records = merged(rule, models)
    for name in SHAPES:
        assert_rounded(state[name], naive(rule, models, name), dtype)
        base = models[0][name].double()
        vectors = [model[name].double() - base for model in models[1:]]
        expected = [
            int(kept(k, v, name, j, 3).sum())
            for j, (k, v) in enumerate(zip(keeps, vectors, strict=True))
        ]
        assert records[name].kept == tuple(expected)


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize("select", [0.001, 0.1, 0.6, 1.0])
@pytest.mark.parametrize("scale", [0.01, 1e-4])
def test_sce_is_the_naive_one(kernel: MaskKernel, dtype: str, select: float, scale: float) -> None:
    models = family(dtype, scale=scale)
    models[2]["bias"] = models[1]["bias"] = models[3]["bias"]  # no variance: nothing is selected
    rule = Sce(3, Spread(select))
    state, _ = merged(rule, models)
    for name in SHAPES:
        assert_rounded(state[name], naive_sce(rule, models, name), dtype)
    if select < 1:
        assert state["bias"].equal(models[0]["bias"])
