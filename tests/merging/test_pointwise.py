"""nearswap, Arcee Fusion and RAM, beside whole-tensor references in float64."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mergekit_geo.errors import ArgumentError, NonFiniteError
from mergekit_geo.geometry.masked import Elementwise
from mergekit_geo.geometry.pointwise import ArceeFusion, NearSwap, Ram
from mergekit_geo.merging import importance, tensor
from mergekit_geo.merging.mask_kernel import MaskKernel
from mergekit_geo.merging.methods import rule_of
from mergekit_geo.merging.native_masks import NativeMasks
from mergekit_geo.merging.ranks import Outlying
from tests.merging.test_masked import SHAPES, State, assert_rounded, family, merged


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "BLOCK", 130)


# The references


def naive_nearswap(rule: NearSwap, base: Tensor, models: list[Tensor]) -> Tensor:
    """Of QuartetAnemoi's description: the nearer two elements, the more of the second."""
    weight = (rule.reach / (models[0] - base).abs().clamp(min=1e-6)).clamp(max=1)
    return weight * models[0] + (1 - weight) * base


def naive_fusion(rule: ArceeFusion, base: Tensor, models: list[Tensor]) -> Tensor:
    return torch.where(important(base, models[0]), models[0], base)


def important(base: Tensor, model: Tensor) -> Tensor:
    """Whether an element's importance reaches the median and 1.5 interquartile ranges."""
    p, q = (torch.softmax(tensor, dim=-1) + 1e-8 for tensor in (model, base))
    divergence = (p * torch.log(p / q)).sum(dim=-1, keepdim=True).clamp(min=0)
    found = ((model - base).abs() * divergence).float()
    order = found.flatten().sort().values.double()
    low, middle, high = (order[(len(order) - 1) * share // 4] for share in (1, 2, 3))
    return (found >= (1 - 1e-6) * (middle + 1.5 * (high - low))).reshape(base.shape)


def naive_ram(rule: Ram, base: Tensor, models: list[Tensor]) -> Tensor:
    moved = torch.stack([model - base for model in models])
    counts = moved.abs() > rule.threshold
    several, alone = counts.sum(0) > 1, counts.sum(0) == 1
    total = (moved * counts * several).sum(0) / counts.sum(0).clamp(min=1)
    for vector, own in zip(moved, counts, strict=True):
        shared, unique = int((own & several).sum()), int((own & alone).sum())
        rho = shared / unique if unique else math.inf
        total = total + (1 + rule.gain * min(rho, rule.bound)) * vector * own * alone
    return base + total


Naive = Callable[[Elementwise, Tensor, list[Tensor]], Tensor]
CASES: dict[str, tuple[Elementwise, Naive]] = {
    "nearswap": (NearSwap(0.004), naive_nearswap),  # type: ignore[dict-item]
    "nearswap, tiny": (NearSwap(3e-7), naive_nearswap),  # type: ignore[dict-item]
    "fusion": (ArceeFusion(), naive_fusion),  # type: ignore[dict-item]
    "ram": (Ram(3, 0.008), naive_ram),  # type: ignore[dict-item]
    "ram+": (Ram(3, 0.012, 0.4, 0.9), naive_ram),  # type: ignore[dict-item]
    "ram+, bounded": (Ram(3, 0.001, 0.4, 0.2), naive_ram),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64"])
def test_a_merge_is_the_naive_one(kernel: MaskKernel, case: str, dtype: str) -> None:
    rule, naive = CASES[case]
    models = family(dtype, count=4 if "ram" in case else 2)
    state, records = merged(rule, models)  # type: ignore[arg-type]
    for name in SHAPES:
        base, *others = (model[name].double() for model in models)
        assert_rounded(state[name], naive(rule, base, others), dtype)
        assert len(records[name].kept) == len(others)


@pytest.mark.parametrize("case", CASES)
def test_workers_and_chunks_change_no_bit(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, _ = CASES[case]
    models = family("BF16", count=4 if "ram" in case else 2)
    once, _ = merged(rule, models, workers=1)  # type: ignore[arg-type]
    monkeypatch.setattr(tensor, "CHUNK", 131)
    again, _ = merged(rule, models, workers=3)  # type: ignore[arg-type]
    assert all(once[name].equal(again[name]) for name in SHAPES)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_equal_models_are_the_base_to_the_bit(case: str, dtype: str) -> None:
    """Zeros among them, of either sign."""
    base = family(dtype, count=1)[0]
    base["layers.0.w"][3:5] = 0.0
    base["one"][0] = -0.0
    state, _ = merged(CASES[case][0], [base] * (4 if "ram" in case else 2))  # type: ignore[arg-type]
    assert all(state[n].view(torch.uint8).equal(base[n].view(torch.uint8)) for n in SHAPES)


def test_what_is_kept_is_told(kernel: MaskKernel) -> None:
    models = family("F32", count=2)
    _, records = merged(ArceeFusion(), models)  # type: ignore[arg-type]
    for name in SHAPES:
        base, model = (each[name].double() for each in models)
        assert records[name].kept == (int(important(base, model).sum()),)
    assert records["one"].kept == (1,)  # one element: its row diverges by nothing, as all do


def test_divergences_of_many_rows_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    models = family("F32", count=2)
    once, _ = merged(ArceeFusion(), models)  # type: ignore[arg-type]
    monkeypatch.setattr(importance, "MOST_ROWS", 0)
    again, _ = merged(ArceeFusion(), models)  # type: ignore[arg-type]
    assert all(once[name].equal(again[name]) for name in SHAPES)


@pytest.mark.parametrize("scale", [1.0, 0.7, 1 / 64])
def test_a_change_that_just_reaches_the_bound_is_kept(scale: float) -> None:
    """2 + 1.5 (3 - 1) = 5: as gains in bfloat16 do, which have few values."""
    changes = scale * torch.tensor([1, 5, 1.5, 3, 1, 4.9, 2, 2.5, 1], dtype=torch.float64)
    state, records = merged(ArceeFusion(), [{"w": torch.zeros(9).double()}, {"w": changes}])  # type: ignore[arg-type]
    assert records["w"].kept == (1,)
    assert state["w"].nonzero().tolist() == [[1]]


@pytest.mark.parametrize("spread", [1, 3, 1000])
def test_quartiles_are_those_of_a_sort(spread: int) -> None:
    """Of keys that repeat, and of one that all have."""
    draw = np.random.default_rng(spread)
    sizes = draw.integers(1, 1 + spread, 701).astype(np.float32)
    masker = Outlying(NativeMasks(), 701)
    for _ in range(2):
        for start in range(0, 701, 99):
            masker.look(sizes.view(np.uint32)[start : start + 99])
        masker.settle()
    masker.begin()
    mask = np.zeros(701, np.uint8)
    masker.fill(0, sizes.view(np.uint32), mask)
    low, middle, high = (float(np.sort(sizes)[175 * share]) for share in (1, 2, 3))
    assert mask.tolist() == (sizes >= middle + 1.5 * (high - low)).tolist()


def test_a_step_of_nearswap_is_no_longer_than_t(kernel: MaskKernel) -> None:
    models = family("F64", count=2)
    state, _ = merged(NearSwap(0.003), models)  # type: ignore[arg-type]
    for name in SHAPES:
        step = state[name] - models[0][name]
        assert step.abs().max() <= 0.003 + 1e-12
        near = (models[1][name] - models[0][name]).abs() <= 0.003
        torch.testing.assert_close(state[name][near], models[1][name][near], rtol=0, atol=1e-15)


def test_statistics_stay_those_of_the_base() -> None:
    models: list[State] = [{"bn.running_var": torch.tensor([v])} for v in (1.0, 4.0)]
    for rule in (NearSwap(1.0), ArceeFusion()):
        state, _ = merged(rule, models)  # type: ignore[arg-type]
        assert state["bn.running_var"].item() == 1.0


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_finite_is_refused(case: str) -> None:
    models = family("F32", count=4 if "ram" in case else 2)
    models[1]["bias"][7] = torch.nan
    with pytest.raises(NonFiniteError, match=r"NaN or infinite elements in m1 \(1\)"):
        merged(CASES[case][0], models)  # type: ignore[arg-type]


def test_what_does_not_fit_the_output_is_refused() -> None:
    models = [{"w": torch.tensor([60000.0, 1.0])}, {"w": torch.tensor([69000.0, 1.0])}]
    with pytest.raises(NonFiniteError, match=r"values up to 6\.9e\+04 do not fit F16"):
        merged(Ram(1), models, dtype="F16")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "given", "said"),
    [
        ("nearswap", {"t": -0.1}, r"t must lie in \[0, 1\], found -0\.1"),
        ("ram", {"least_change": -1e-5}, r"epsilon must lie in \[0, inf\), found -1e-05"),
        ("ramplus_tl", {"r": -1}, r"r must lie in \[0, inf\), found -1"),
        ("ramplus_tl", {"alpha": -1}, r"alpha must lie in \[0, inf\), found -1"),
        ("ram", {"r": 1}, "ram takes no 'r' .*parameters of ram: least_change"),
    ],
)
def test_what_is_out_of_bounds_is_refused(method: str, given: dict[str, float], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        rule_of(method, 2, 0, **given)


@pytest.mark.parametrize("method", ["nearswap", "arcee_fusion"])
def test_one_model_beside_the_base(method: str) -> None:
    with pytest.raises(ArgumentError, match=f"{method} takes 1 model beside the base, found 2"):
        rule_of(method, 3, 0)
    with pytest.raises(ArgumentError, match=f"{method} needs a base"):
        rule_of(method, 2)
