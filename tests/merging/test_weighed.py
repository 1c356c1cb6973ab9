"""Means by Fishers, beside whole-tensor references in float64."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.errors import ArgumentError, NonFiniteError
from mergekit_geo.geometry.task_vectors import task_arithmetic
from mergekit_geo.merging import tensor, weighed_tensor
from mergekit_geo.merging.methods import rule_of
from mergekit_geo.merging.plain_weighing import PlainWeighing
from mergekit_geo.merging.weighed import FisherSettings, Weighed
from mergekit_geo.merging.weighing import NativeWeighing, WeighingKernel, weighing_kernel
from tests.merging.test_masked import SHAPES, State, assert_rounded, family, merged

SETTINGS = FisherSettings(8)
KERNELS = [PlainWeighing(), *([weighing_kernel()] * isinstance(weighing_kernel(), NativeWeighing))]


@pytest.fixture(params=KERNELS, ids=lambda one: type(one).__name__)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> WeighingKernel:
    """Short chunks, so that every tensor has several."""
    monkeypatch.setattr(weighed_tensor, "weighing_kernel", lambda: request.param)
    monkeypatch.setattr(tensor, "CHUNK", 500)
    return request.param  # type: ignore[no-any-return]


def fishers(count: int, seed: int = 5) -> list[State]:
    """Numbers over many orders of magnitude, some of them 0."""
    draw = torch.Generator().manual_seed(seed)
    return [
        {n: (10 ** (6 * torch.rand(s, generator=draw) - 9)) * (torch.rand(s, generator=draw) > 0.1)
         for n, s in SHAPES.items()}
        for _ in range(count)
    ]  # fmt: skip


def given(rule: object, found: list[State]) -> Weighed:
    assert isinstance(rule, Weighed)
    opened: list[Checkpoint] = [of_state(one, f"Fisher {i}") for i, one in enumerate(found)]
    return rule.given(opened, [str(i) for i in range(len(found))])


def fisher(weights: tuple[float, ...], found: list[State], floor: float = 1e-7) -> Weighed:
    return given(Weighed("fisher", weights, SETTINGS, floor), found)


def uncertainty(weights: tuple[float, ...], found: list[State], floor: float = 1e-9) -> Weighed:
    return given(Weighed("uncertainty", weights, SETTINGS, floor, has_prior=True), found)


# The references


def naive_fisher(rule: Weighed, models: list[Tensor], found: list[Tensor]) -> Tensor:
    """Matena 2022, with the floor of the published code on every Fisher."""
    bounded = [one.double().clamp(min=rule.floor) for one in found]
    triples = list(zip(rule.step, bounded, models, strict=True))
    return sum(w * f * m for w, f, m in triples) / sum(w * f for w, f, _ in triples)  # type: ignore[return-value]


def naive_uncertainty(rule: Weighed, models: list[Tensor], found: list[Tensor]) -> Tensor:
    """Daheim 2024, with delta_0 of the published code in the Hessian of the base."""
    base, *others = models
    prior, *own = (one.double() for one in found)
    prior = prior + rule.floor
    total = prior + sum(w * h for w, h in zip(rule.step, own, strict=True))
    moved = zip(rule.step, own, others, strict=True)
    return base + sum(w * (prior + h) / total * (m - base) for w, h, m in moved)  # type: ignore[return-value]


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64"])
@pytest.mark.parametrize("method", ["fisher", "uncertainty"])
def test_a_merge_is_the_naive_one(kernel: WeighingKernel, method: str, dtype: str) -> None:
    models, found = family(dtype, count=3), fishers(3)
    weights = (0.75, 0.25, 2.0)
    rule = fisher(weights, found) if method == "fisher" else uncertainty(weights[:2], found)
    state, records = merged(rule, models)  # type: ignore[arg-type]
    for name in SHAPES:
        wide = [model[name].double() for model in models]
        naive = naive_fisher if method == "fisher" else naive_uncertainty
        assert_rounded(state[name], naive(rule, wide, [one[name] for one in found]), dtype)
        assert sum(records[name].coefficients) == pytest.approx(1.0)
        assert records[name].gram is not None


def test_equal_models_give_that_model(kernel: WeighingKernel) -> None:
    for dtype in ("BF16", "F64"):
        model = family(dtype, count=1)[0]
        for rule in (fisher((1.0, 3.0), fishers(2)), uncertainty((0.5,), fishers(2))):
            state, _ = merged(rule, [model, model])  # type: ignore[arg-type]
            assert all(torch.equal(state[name], model[name]) for name in SHAPES)


def test_equal_fishers_give_the_mean_and_none_does(kernel: WeighingKernel) -> None:
    models, found = family("F64", count=3), fishers(1) * 3
    nothing = [{n: torch.zeros(s) for n, s in SHAPES.items()}] * 3
    for each in (found, nothing, [{}, {}, {}]):
        state, records = merged(fisher((1.0, 1.0, 2.0), each), models)  # type: ignore[arg-type]
        for name in SHAPES:
            mean = (models[0][name] + models[1][name] + 2 * models[2][name]) / 4
            torch.testing.assert_close(state[name], mean, rtol=1e-13, atol=1e-13)
            assert records[name].coefficients == pytest.approx((0.25, 0.25, 0.5))


def test_equal_uncertainty_is_task_arithmetic(kernel: WeighingKernel) -> None:
    models, weights = family("F64", count=3), (0.25, 0.75)
    expected, _ = merged(task_arithmetic(weights, 1.0), models)  # type: ignore[arg-type]
    for found, floor in ((fishers(1) * 3, 1e-30), ([{}, {}, {}], 1e-12)):
        state, _ = merged(uncertainty(weights, found, floor), models)  # type: ignore[arg-type]
        for name in SHAPES:
            kept = found[0].get(name, torch.ones(())) != 0
            torch.testing.assert_close(
                state[name] * kept, expected[name] * kept, rtol=1e-12, atol=1e-12
            )


def test_the_order_of_models_changes_nothing(kernel: WeighingKernel) -> None:
    models, found, weights = family("F64", count=3), fishers(3), (1.0, 2.0, 0.5)
    state, _ = merged(fisher(weights, found), models)  # type: ignore[arg-type]
    order = [2, 0, 1]
    turned = fisher(tuple(weights[i] for i in order), [found[i] for i in order])
    other, _ = merged(turned, [models[i] for i in order])  # type: ignore[arg-type]
    for name in SHAPES:
        torch.testing.assert_close(state[name], other[name], rtol=1e-12, atol=1e-12)


def test_a_model_without_weight_or_fisher_counts_for_nothing(kernel: WeighingKernel) -> None:
    models, found = family("F64", count=2), fishers(2)
    state, _ = merged(fisher((0.0, 1.0), found), models)  # type: ignore[arg-type]
    torch.testing.assert_close(state["bias"], models[1]["bias"], rtol=1e-12, atol=1e-12)


def test_elements_that_are_no_numbers(kernel: WeighingKernel) -> None:
    models, rule = family("F32", count=2), fisher((1.0, 1.0), fishers(2))
    models[1]["bias"][3] = torch.nan
    with pytest.raises(NonFiniteError, match=r"NaN or infinite elements in m1 \(1\)"):
        merged(rule, models)  # type: ignore[arg-type]


def test_a_rule_is_known_by_its_fishers() -> None:
    rule = fisher((1.0, 1.0), fishers(2))
    assert repr(rule) == repr(replace(rule, statistics=()))
    assert repr(rule) != repr(replace(rule, keys=("0", "2")))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"weights": [1, -1]}, "a mean by Fishers needs weights >= 0, found -1"),
        ({"weights": [0, 0]}, "the weights sum to zero"),
        ({"fisher_examples": 2.5}, "fisher_examples must be a whole number, found 2.5"),
        ({"fisher_examples": 0}, r"fisher_examples must lie in \[1, inf\), found 0"),
        ({"fisher_floor": 0}, r"fisher_floor must lie in \(0, inf\), found 0"),
    ],
)
def test_numbers_that_cannot_be_meant(wrong: dict[str, object], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        rule_of("fisher", 2, **wrong)  # type: ignore[arg-type]
