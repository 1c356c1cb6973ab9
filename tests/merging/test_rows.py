"""Merging row by row and column by column, beside whole-tensor references in float64."""

import math

import pytest
import torch
from torch import Tensor

from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.errors import ArgumentError, NonFiniteError
from mergekit_geo.geometry.by_row import ByRow
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging import tensor
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.methods import rule_of
from mergekit_geo.merging.native import NativeKernel
from mergekit_geo.merging.stream import stream
from tests.merging.test_masked import State, assert_rounded, family


@pytest.fixture(params=["native", "torch"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Short chunks, so that every tensor has several."""
    monkeypatch.setattr(tensor, "CHUNK", 500)
    if request.param == "torch":
        monkeypatch.setattr(NativeKernel, "is_built", lambda: False)
    return str(request.param)


def merged(rule: Rule, models: list[State], workers: int = 2, **options: bool) -> State:
    blend = Blend(tuple(of_state(model, f"m{i}") for i, model in enumerate(models)), rule)
    sink, advanced = MemorySink(blend), [0]
    records = stream(blend, sink, workers=workers, advance=advanced.append, **options)
    assert sum(advanced) == blend.work()
    assert all(len(record.coefficients) == len(models) for record in records.values())
    assert {record.branch for record in records.values()} == {rule.branch}  # type: ignore[attr-defined]
    return sink.state


# The references: along one dimension of whole tensors


def naive_nuslerp(a: Tensor, b: Tensor, t: float, dim: int) -> Tensor:
    """Shoemake 1985 by the cosine; the straight line where there is no angle."""
    sizes = a.norm(dim=dim, keepdim=True) * b.norm(dim=dim, keepdim=True)
    cosine = (a * b).sum(dim=dim, keepdim=True) / torch.where(sizes > 0, sizes, 1.0)
    theta = torch.acos(cosine.clamp(-1, 1))
    is_arc = (sizes > 0) & (theta.sin() > 1e-6)
    sine = torch.where(is_arc, theta.sin(), 1.0)
    arc = (torch.sin((1 - t) * theta) * a + torch.sin(t * theta) * b) / sine
    return torch.where(is_arc, arc, (1 - t) * a + t * b)


def naive_stock(base: Tensor, models: list[Tensor]) -> Tensor:
    """Jang 2024, equation 7, with the mean cosine of all pairs."""
    moved = [model - base for model in models]
    cosines = [
        torch.nn.functional.cosine_similarity(x, y, dim=-1, eps=1e-30)
        for i, x in enumerate(moved)
        for y in moved[i + 1 :]
    ]
    cosine = torch.stack(cosines).mean(dim=0)[..., None]
    t = len(models) * cosine / (1 + (len(models) - 1) * cosine)
    return base + t * (sum(models) / len(models) - base)


DTYPES = ["BF16", "F16", "F32"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("based", [False, True])
def test_nuslerp_is_the_naive_one(kernel: str, dtype: str, columns: bool, based: bool) -> None:
    models = family(dtype, count=3, scale=0.5)
    rule = rule_of(
        "nuslerp", 2 + based, 0 if based else None, weights=[1.0, 3.0], nuslerp_flatten=False,
        nuslerp_row_wise=columns,
    )  # fmt: skip
    state = merged(rule, models if based else models[1:])
    for name, found in state.items():
        base, a, b = (model[name].double() for model in models)
        origin = base if based else torch.zeros_like(base)
        arc = naive_nuslerp(a - origin, b - origin, 0.75, 0 if columns else -1)
        assert_rounded(found, origin + arc, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_model_stock_is_the_naive_one(kernel: str, dtype: str) -> None:
    models = family(dtype, scale=0.5)
    state = merged(rule_of("model_stock", 4, 0, filter_wise=True), models)
    for name, found in state.items():
        if models[0][name].numel() > 1:  # one element: opposite signs may balance out
            base, *others = (model[name].double() for model in models)
            assert_rounded(found, naive_stock(base, others), dtype)


RULES: list[Rule] = [
    rule_of("nuslerp", 3, 0, weights=[1.0, 3.0], nuslerp_flatten=False),
    rule_of("nuslerp", 3, 0, nuslerp_flatten=False, nuslerp_row_wise=True),
    rule_of("model_stock", 3, 0, filter_wise=True),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.branch)
def test_many_rows_at_once_have_the_factors_of_each(rule: ByRow) -> None:
    """Zeros, equal and opposite rows among them."""
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(8, 3, 6, generator=draw, dtype=torch.float64)
    vectors[1, 1] = vectors[1, 0]
    vectors[2, 1:] = vectors[2, :1]
    vectors[3] = 0
    vectors[4, 2] = vectors[4, 1]
    vectors[5, 2] = 2 * vectors[5, 0] - vectors[5, 1]
    grams = [Gram.of(anchors.numpy()) for anchors in vectors]
    together = Gram(torch.stack([torch.from_numpy(g.differences) for g in grams]).numpy(), 6)
    found = torch.from_numpy(rule.rule.of_rows(together))
    each = torch.tensor([rule.coefficients(gram).values for gram in grams], dtype=torch.float64)
    torch.testing.assert_close(found, each, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.branch)
def test_zero_rows_and_rows_that_stand_still(kernel: str, rule: ByRow) -> None:
    models = family("F32", count=3)
    for model in models:
        model["layers.0.w"][5] = 0.0
        model["layers.0.w"][:, 7] = 0.0
        model["layers.1.w"][9] = models[0]["layers.1.w"][9]
    state = merged(rule, models)
    assert all(tensor.isfinite().all() for tensor in state.values())
    assert not state["layers.0.w"][5].any()
    assert not state["layers.0.w"][:, 7].any()
    torch.testing.assert_close(state["layers.1.w"][9], models[0]["layers.1.w"][9])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.branch)
@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_equal_models_are_the_base_to_the_bit(rule: Rule, dtype: str) -> None:
    base = family(dtype, count=1)[0]
    state = merged(rule, [base] * 3)
    assert all(state[name].equal(base[name]) for name in base)


def test_an_end_of_the_arc_is_its_model_to_the_bit(kernel: str) -> None:
    models = family("BF16", count=2)
    models[0]["bias"][3] = -0.0
    rule = rule_of("nuslerp", 2, weights=[1.0, 0.0], nuslerp_flatten=False)
    state = merged(rule, models)
    for name, found in state.items():
        assert found.view(torch.int16).equal(models[0][name].view(torch.int16))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.branch)
def test_workers_and_chunks_change_nothing(rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inner products of columns are summed chunk by chunk, so their last bits may change."""
    models = family("F32", count=3)
    once = merged(rule, models, workers=1)
    monkeypatch.setattr(tensor, "CHUNK", 131)
    again = merged(rule, models, workers=3)
    for name in once:
        torch.testing.assert_close(once[name], again[name], rtol=2e-7, atol=1e-9)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.branch)
def test_what_is_not_finite_is_refused_or_averaged(rule: ByRow) -> None:
    """Only the row, or the column, that holds it."""
    models = family("F32", count=3)
    models[1]["layers.0.w"][4, 6] = math.nan
    models[2]["layers.0.w"][4, 8] = math.inf
    with pytest.raises(NonFiniteError, match=r"NaN or infinite elements in m1 \(1\), m2 \(1\)"):
        merged(rule, models)
    state = merged(rule, models, allow_nonfinite=True)
    lost = ~state["layers.0.w"].isfinite()
    assert lost.sum() == 2
    assert lost[4, 6]
    assert lost[4, 8]
    line = (slice(None), 6) if rule.columns else 4
    mean = sum(c * model["layers.0.w"][line] for c, model in zip(rule.convex, models, strict=True))
    torch.testing.assert_close(state["layers.0.w"][line], mean, equal_nan=True)


def test_scalars_empty_tensors_integers_and_statistics() -> None:
    models = [
        {
            "running_var": torch.tensor([value]),
            "steps.num_batches_tracked": torch.tensor(int(value)),
            "scalar": torch.tensor(value),
            "empty": torch.empty(0, 3),
        }
        for value in (1.0, 3.0, 9.0)
    ]
    for columns in (False, True):
        rule = rule_of("nuslerp", 3, 0, nuslerp_flatten=False, nuslerp_row_wise=columns)
        blend = Blend(tuple(of_state(model, "m") for model in models), rule)
        sink = MemorySink(blend)
        records = stream(blend, sink)
        assert sink.state["scalar"].item() == 1 + (2 + 8) / 2
        assert (sink.state["running_var"].item(), sink.state["empty"].shape) == (6.0, (0, 3))
        assert records["running_var"].branch == "linear: statistic"


def test_without_flatten_false_a_tensor_is_one_vector() -> None:
    """As in mergekit, where nuslerp_row_wise alone changes nothing."""
    assert rule_of("nuslerp", 2, nuslerp_row_wise=True) == rule_of("nuslerp", 2)


def test_what_is_no_switch_is_refused() -> None:
    with pytest.raises(ArgumentError, match="filter_wise must be true or false, found 2"):
        rule_of("model_stock", 3, 0, filter_wise=2)
