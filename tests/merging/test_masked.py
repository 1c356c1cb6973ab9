"""Merging element by element, beside naive whole-tensor references written from the papers."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mergekit_geo.checkpoints.dtypes import TORCH_DTYPES
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.errors import ArgumentError, NonFiniteError
from mergekit_geo.geometry.masked import Masked, Sce
from mergekit_geo.geometry.sparsifiers import (
    Breadcrumbs,
    Dropout,
    MagPrune,
    Sparsifier,
    TopK,
    VarianceTopK,
)
from mergekit_geo.geometry.task_vectors import task_arithmetic
from mergekit_geo.merging import tensor
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.mask_kernel import MaskKernel
from mergekit_geo.merging.masks import seed_of
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.native_masks import NativeMasks
from mergekit_geo.merging.plain_masks import PlainMasks, numbers, threefry
from mergekit_geo.merging.ranks import Ranks
from mergekit_geo.merging.stream import stream
from mergekit_geo.merging.tensor_record import TensorRecord

SHAPES = {
    "layers.0.w": (37, 53),
    "layers.1.w": (64, 64),
    "bias": (301,),
    "one": (1,),
    "cube": (3, 5, 7),
    "long": (2, 700),
}
WEIGHTS = (0.75, -0.25, 0.5)
"""Exact in any dtype, so that sums that cancel are zero for everybody."""

State = dict[str, Tensor]


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
    blend = Blend(tuple(of_state(model, f"m{i}") for i, model in enumerate(models)), rule, dtype)
    sink = MemorySink(blend)
    advanced: list[int] = []
    records = stream(blend, sink, workers=workers, advance=advanced.append)
    assert sum(advanced) == blend.work()
    return sink.state, records


# The references: whole tensors in float64, sorted


def kept(keep: Sparsifier, vector: Tensor, name: str, model: int, seed: int) -> Tensor:
    """One where an element is kept."""
    count, size = vector.numel(), vector.abs().float().flatten()
    mask, share = torch.zeros(count), int(keep.density * count)
    if keep.density == 1:
        return torch.ones_like(vector)
    if isinstance(keep, TopK):
        mask[size.sort(descending=True, stable=True).indices[: max(1, share)]] = 1
    elif isinstance(keep, Breadcrumbs):
        least = max(0, count - share - int(keep.gamma * count))
        mask[size.sort(stable=True).indices[least : least + share]] = 1
    else:
        drawn = numbers(seed_of(f"{seed} {model} {name}"), 0, count)
        mask = torch.from_numpy(drawn / 2**32 < chances(keep, vector))
    return mask.reshape(vector.shape).double()


def chances(
    keep: Sparsifier, vector: Tensor
) -> "np.ndarray[tuple[int], np.dtype[np.float64]] | float":
    if not isinstance(keep, MagPrune):
        return keep.density
    size = vector.abs().float().reshape(-1, vector.shape[-1])
    rank = size.argsort(dim=1, stable=True).argsort(dim=1).double()
    share = rank / (rank.shape[1] - 1) if rank.shape[1] > 1 else torch.full_like(rank, 0.5)
    return (keep.density + (2 * share - 1) * keep.epsilon).flatten().numpy()


def naive(rule: Masked, models: list[State], name: str) -> Tensor:
    base, *others = (model[name].double() for model in models)
    weights = torch.tensor(rule.step, dtype=torch.float64).view(-1, *[1] * base.dim())
    rows = []
    for j, (other, keep) in enumerate(zip(others, rule.sparsifiers, strict=True)):
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


KEEPS: dict[str, Callable[[float], Sparsifier]] = {
    "all": lambda density: Sparsifier(1.0),
    "largest": TopK,
    "middle": lambda density: Breadcrumbs(density, 0.05),
    "random": Dropout,
    "ranked": lambda density: MagPrune(density, 0.1),
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
    rule = Sce(3, VarianceTopK(select))
    state, _ = merged(rule, models)
    for name in SHAPES:
        assert_rounded(state[name], naive_sce(rule, models, name), dtype)
    if select < 1:
        assert state["bias"].equal(models[0]["bias"])


# What every such merge keeps

RULES = [
    Masked("ties", WEIGHTS, (TopK(0.4),) * 3, elect=True, normalize=True),
    Masked("dare_ties", WEIGHTS, (Dropout(0.4),) * 3, rescale=True, elect=True, seed=5),
    Masked("della", WEIGHTS, (MagPrune(0.4, 0.2),) * 3, rescale=True, elect=True, normalize=True),
    Masked("breadcrumbs", WEIGHTS, (Breadcrumbs(0.4, 0.1),) * 3),
    Sce(3, VarianceTopK(0.4)),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_workers_and_chunks_change_no_bit(
    rule: Masked | Sce, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = family("BF16")
    once, _ = merged(rule, models, workers=1)
    monkeypatch.setattr(tensor, "CHUNK", 131)
    again, _ = merged(rule, [dict(reversed(model.items())) for model in models], workers=3)
    assert all(once[name].equal(again[name]) for name in SHAPES)


def test_another_seed_model_or_tensor_is_another_mask() -> None:
    models = family("F32")
    models[2], models[3] = models[1], models[1]
    for model in models:
        model["layers.0.w"] = model["layers.1.w"].clone()
    keep = (Dropout(0.5), Dropout(1e-9), Dropout(1e-9))
    found = [
        merged(Masked("dare", weights, keeps, seed=seed), models)[0][name]
        for weights, keeps, seed, name in [
            ((1.0, 0.0, 0.0), keep, 0, "layers.0.w"),
            ((1.0, 0.0, 0.0), keep, 1, "layers.0.w"),
            ((0.0, 1.0, 0.0), (keep[1], keep[0], keep[2]), 0, "layers.0.w"),
            ((1.0, 0.0, 0.0), keep, 0, "layers.1.w"),
        ]
    ]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert 0.4 < (one == other).double().mean() < 0.6  # as if by two coins


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_equal_models_are_the_base_to_the_bit(rule: Masked | Sce, dtype: str) -> None:
    base = family(dtype, count=1)[0]
    base["one"][0] = -0.0
    state, _ = merged(rule, [base] * 4)
    assert all(state[n].view(torch.uint8).equal(base[n].view(torch.uint8)) for n in SHAPES)


@pytest.mark.parametrize("keep", [TopK, Dropout, MagPrune, Breadcrumbs])
def test_density_zero_is_the_base_to_the_bit(keep: Callable[[float], Sparsifier]) -> None:
    models = family("BF16")
    rule = Masked("x", WEIGHTS, (keep(0.0),) * 3, rescale=True, elect=True, normalize=True)
    state, records = merged(rule, models)
    assert all(state[name].equal(models[0][name]) for name in SHAPES)
    assert records["bias"].kept == (0, 0, 0)


def test_all_kept_and_no_vote_is_task_arithmetic() -> None:
    models = family("F32")
    state, _ = merged(Masked("x", WEIGHTS, (Sparsifier(),) * 3, scale=0.8), models)
    linear, _ = merged(task_arithmetic(WEIGHTS, 0.8), models)  # type: ignore[arg-type]
    for name in SHAPES:
        torch.testing.assert_close(state[name], linear[name], rtol=3e-7, atol=1e-8)


def test_dare_keeps_the_expectation() -> None:
    """Over many seeds the mean is the mean without masks, as the paper's rescaling has it."""
    models = family("F64", count=2)
    rules = [Masked("dare", (1.0,), (Dropout(0.3),), rescale=True, seed=s) for s in range(200)]
    mean = sum(merged(rule, models)[0]["layers.0.w"] for rule in rules) / len(rules)
    vector = models[1]["layers.0.w"] - models[0]["layers.0.w"]
    error = (mean - models[1]["layers.0.w"]) / (vector.abs() * (0.7 / 0.3 / len(rules)) ** 0.5)
    assert error.abs().mean() < 1
    assert abs(float(error.mean())) < 4 / error.numel() ** 0.5


def test_statistics_integers_scalars_and_empty_tensors() -> None:
    models = [
        {
            "running_var": torch.tensor([value]),
            "steps.num_batches_tracked": torch.tensor(int(value)),
            "scalar": torch.tensor(value),
            "empty": torch.empty(0, 3),
        }
        for value in (1.0, 3.0, 9.0)
    ]
    rule = Masked("ties", (0.5, 0.25), (TopK(0.1),) * 2, elect=True)
    state, records = merged(rule, models)
    assert state["running_var"].item() == 0.25 * 1 + 0.5 * 3 + 0.25 * 9
    assert state["scalar"].item() == 1 + 0.5 * 2 + 0.25 * 8  # one element at least is kept
    assert (state["steps.num_batches_tracked"], state["empty"].shape) == (1, (0, 3))
    assert records["running_var"].branch == "linear: statistic"


def test_what_is_not_finite_is_refused_or_averaged() -> None:
    models = family("F32", count=3)
    models[2]["bias"][7] = torch.nan
    rule = Masked("ties", (0.5, 0.25), (TopK(0.5),) * 2, elect=True)
    with pytest.raises(NonFiniteError, match=r"NaN or infinite elements in m2 \(1\)"):
        merged(rule, models)
    blend = Blend(tuple(of_state(model, "m") for model in models), rule)
    sink = MemorySink(blend)
    records = stream(blend, sink, allow_nonfinite=True)
    mean = sum(c * m["bias"].double() for c, m in zip(rule.convex, models, strict=True))
    torch.testing.assert_close(sink.state["bias"].double(), mean, equal_nan=True)
    assert records["bias"].branch == "linear: not finite"


def test_what_does_not_fit_the_output_is_refused() -> None:
    models = [{"w": torch.tensor([60000.0, 1.0])}, {"w": torch.tensor([65000.0, 1.0])}]
    rule = Masked("ties", (2.0,), (TopK(1.0),), elect=True)
    with pytest.raises(NonFiniteError, match=r"values up to 7e\+04 do not fit F16"):
        merged(rule, models, dtype="F16")


def test_a_record_survives_the_journal() -> None:
    _, records = merged(RULES[0], family("F32"))
    assert records["bias"].kept == (120, 120, 120)
    raw = json.loads(json.dumps(records["bias"].to_json()))
    assert TensorRecord.from_json(raw).kept == (120, 120, 120)


# The kernel itself


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        (0, 0, ["6b200159", "99ba4efe"]),
        (2**64 - 1, 2**64 - 1, ["1cb996fc", "bb002be7"]),
        (0x0370734413198A2E, 0x85A308D3243F6A88, ["c4923a9c", "483df7a0"]),
    ],
)
def test_threefry_gives_the_published_numbers(key: int, counter: int, expected: list[str]) -> None:
    """Known answers of Random123 for threefry2x32-20."""
    assert [f"{number:08x}" for number in threefry(key, counter, 1)[0]] == expected


@pytest.mark.parametrize("start", [0, 1, 255, 256, (1 << 40) + 77])
def test_both_kernels_draw_the_same(start: int) -> None:
    masks = np.zeros((2, 1000), np.uint8)
    chances = np.random.default_rng(0).integers(0, 2**32, 1000, np.uint32)
    for chance in (0.37, chances):
        for mask, kernel in zip(masks, (NativeMasks(), PlainMasks()), strict=True):
            kernel.draw(2**63 + 12345, start, chance, mask)
        assert (masks[0] == masks[1]).all()
        assert 0.2 < masks.mean() < 0.7


def test_chance_is_exact() -> None:
    """Of numbers that are spread evenly a share of exactly the chance is below it."""
    drawn = numbers(1, 0, 1 << 20)
    assert abs((drawn < 0.25 * 2**32).mean() - 0.25) < 4 * (0.25 * 0.75 / (1 << 20)) ** 0.5
    assert len(np.unique(drawn[:4096])) > 4090


@pytest.mark.parametrize(
    ("low", "high", "first_come"),
    [(0, 700, False), (0, 1, False), (699, 700, True), (100, 100, False), (123, 456, False),
     (123, 700, False), (123, 700, True)],
)  # fmt: skip
def test_ranks_are_those_of_a_sort(low: int, high: int, first_come: bool) -> None:
    """Keys that repeat, at both ends of the range."""
    keys = np.random.default_rng(low).integers(0, 40, 700, np.uint32) << np.uint32(14)
    masker = Ranks(NativeMasks(), 700, low, high, first_come=first_come)
    for _ in range(2):
        for start in range(0, 700, 99):
            masker.look(keys[start : start + 99])
        masker.settle()
    masker.begin()
    mask = np.zeros(700, np.uint8)
    for start in range(0, 700, 50):
        masker.fill(start, keys[start : start + 50], mask[start : start + 50])
    order = np.argsort(keys, kind="stable")
    if first_come:
        order = np.argsort(~keys, kind="stable")[::-1]
    assert sorted(np.flatnonzero(mask)) == sorted(order[low:high])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopK(-0.1), r"density must lie in \[0, 1\], found -0\.1"),
        (lambda: Dropout(1.2), r"density must lie in \[0, 1\], found 1\.2"),
        (lambda: Breadcrumbs(0.5, 1.0), r"gamma must lie in \[0, 1\), found 1"),
        (lambda: MagPrune(0.9, 0.15), r"density 0\.9 and epsilon 0\.15: .* inside \(0, 1\)"),
    ],
)
def test_what_cannot_be_kept_is_refused(make: Callable[[], Sparsifier], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()
