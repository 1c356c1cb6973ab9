"""Streamed merges against a naive reference on whole tensors in float64, rounded once."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.errors import AntipodalError, ArgumentError, NonFiniteError
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.geometry.sphere import Karcher, Slerp
from mergekit_geo.merging import tensor as chunks
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.native import NativeKernel, kernel_for
from mergekit_geo.merging.stream import stream
from mergekit_geo.merging.tensor_record import TensorRecord

FLOATS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
RULES: list[Rule] = [
    Linear((0.3, 0.45, 0.25)),
    Linear((1.2, -0.7, 0.5)),
    Karcher((0.3, 0.45, 0.25)),
]


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tensors then take several chunks, the last one shorter."""
    monkeypatch.setattr(chunks, "CHUNK", 5000)


@pytest.fixture(autouse=True, params=["native", "torch"])
def _kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds for the compiled kernels and for those in torch."""
    if request.param == "torch":
        monkeypatch.setattr(NativeKernel, "is_built", lambda: False)
    else:
        assert NativeKernel.is_built(), "no C compiler when the package was installed?"


def run(
    states: list[dict[str, Tensor]], rule: Rule, dtype: str | None = None, **options: object
) -> tuple[dict[str, Tensor], dict[str, TensorRecord]]:
    anchors = tuple(of_state(state, f"m{i}") for i, state in enumerate(states))
    blend = Blend(anchors, rule, dtype)
    sink = MemorySink(blend)
    records = stream(blend, sink, **options)  # type: ignore[arg-type]
    return sink.state, records


def draws(dtype: torch.dtype, count: int = 3, size: int = 30_011) -> list[dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    base = torch.randn(size, generator=draw)
    return [{"w": (base + torch.randn(size, generator=draw) / 2).to(dtype)} for _ in range(count)]


def assert_close_to_reference(
    found: Tensor, states: list[dict[str, Tensor]], rule: Rule, dtype: torch.dtype
) -> None:
    """Within one unit in the last place of the whole-tensor float64 sum, rounded once."""
    rows = torch.stack([state["w"].double() for state in states])
    coefficients = rule.coefficients(Gram.of(rows.numpy())).values
    terms = [row * coefficient for row, coefficient in zip(rows, coefficients, strict=True)]
    expected = sum(terms[1:], start=terms[0]).to(dtype)
    size = expected.abs()
    unit = torch.nextafter(size, torch.full_like(size, torch.inf)).double() - size.double()
    error = (found.double() - expected.double()).abs()
    assert (error <= unit).all()
    assert (error == 0).double().mean() > 0.99


@pytest.mark.parametrize("rule", RULES, ids=["linear", "negative", "karcher"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_within_one_unit_in_the_last_place(dtype: torch.dtype, rule: Rule) -> None:
    states = draws(dtype)
    merged, _ = run(states, rule)
    assert merged["w"].dtype == dtype
    if dtype != torch.float64 or not rule.needs_gram:
        assert_close_to_reference(merged["w"], states, rule, dtype)


@pytest.mark.parametrize("dtype", FLOATS[:3], ids=str)
def test_slerp_within_one_unit_in_the_last_place(dtype: torch.dtype) -> None:
    states = draws(dtype, count=2)
    merged, records = run(states, Slerp(0.3))
    assert_close_to_reference(merged["w"], states, Slerp(0.3), dtype)
    assert records["w"].branch == "slerp"


@pytest.mark.parametrize("rule", RULES[1:], ids=["negative", "karcher"])
def test_float64_agrees_to_rounding_of_its_coefficients(rule: Rule) -> None:
    states = draws(torch.float64)
    merged, _ = run(states, rule)
    rows = np.stack([state["w"].numpy() for state in states])
    expected = rule.coefficients(Gram.of(rows)).values @ rows
    np.testing.assert_allclose(merged["w"].numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", FLOATS[:3], ids=str)
def test_soup_of_equal_models_is_the_model_to_the_bit(dtype: torch.dtype, count: int) -> None:
    model = {"w": torch.cat([draws(dtype)[0]["w"], torch.tensor([-0.0, 0.0, 1e-40]).to(dtype)])}
    merged, _ = run([model] * count, Linear((1 / count,) * count))
    assert merged["w"].view(torch.uint8).equal(model["w"].view(torch.uint8))


@pytest.mark.parametrize("rule", [Slerp(0.0), Slerp(1.0)])
def test_ends_of_a_path_are_the_models_to_the_bit(rule: Slerp) -> None:
    states = draws(torch.bfloat16, count=2)
    merged, _ = run(states, rule)
    assert merged["w"].equal(states[int(rule.t)]["w"])


def test_anchors_of_different_dtypes() -> None:
    states = [draws(dtype, count=1)[0] for dtype in FLOATS[:3]]
    merged, _ = run(states, RULES[0])
    assert_close_to_reference(merged["w"], states, RULES[0], torch.bfloat16)


def test_output_dtype() -> None:
    states = draws(torch.float32)
    merged, _ = run(states, RULES[0], dtype="F16")
    assert_close_to_reference(merged["w"], states, RULES[0], torch.float16)


def test_scalars_empty_tensors_and_integers() -> None:
    states = [
        {
            "scalar": torch.tensor(value),
            "empty": torch.empty(0, 3),
            "count": torch.tensor([1, 2, 3]),
            "mask": torch.tensor([True, False]),
            "steps.num_batches_tracked": torch.tensor(int(value)),
        }
        for value in (1.0, 3.0)
    ]
    merged, records = run(states, Linear((0.5, 0.5)))
    assert merged["scalar"].item() == 2
    assert merged["empty"].shape == (0, 3)
    assert merged["count"].tolist() == [1, 2, 3]
    assert merged["mask"].tolist() == [True, False]
    assert merged["steps.num_batches_tracked"].item() == 1
    assert records["count"].branch == "copied"


def test_running_statistics_stay_between_the_models() -> None:
    states = [{"bn.running_var": torch.tensor([v]), "w": torch.tensor([v])} for v in (1.0, 4.0)]
    merged, records = run(states, Linear((2.0, -1.0)))
    assert merged["w"].item() == -2
    assert merged["bn.running_var"].item() == 1
    assert records["bn.running_var"].branch == "linear: statistic"


def test_bounds_of_clipping_stay_between_the_models_and_may_be_infinite() -> None:
    states = [
        {"l.input_max": torch.tensor(top), "l.output_min": torch.tensor(low), "w": torch.tensor(v)}
        for top, low, v in ((torch.inf, -1.0, 1.0), (torch.inf, -3.0, 4.0))
    ]
    merged, _ = run(states, Linear((2.0, -1.0)))
    assert merged == {"l.input_max": torch.inf, "l.output_min": -1, "w": -2}


def test_gram_comes_out_of_the_same_pass() -> None:
    states = draws(torch.float32)
    _, records = run(states, RULES[0])
    expected = Gram.of(np.stack([state["w"].double().numpy() for state in states]))
    found = records["w"].gram
    assert found is not None
    np.testing.assert_allclose(found.differences, expected.differences, rtol=1e-12)
    assert found.count == expected.count


def test_small_differences_survive_half_precision() -> None:
    """Fine-tunes 1e-3 apart: the distance is right, not 119 % wrong."""
    base = draws(torch.float32)[0]["w"].half()
    near = (base.float() * (1 + 1e-3)).half()
    _, records = run([{"w": base}, {"w": near}], Linear((0.5, 0.5)))
    true = (near.double() - base.double()).norm().item()
    gram = records["w"].gram
    assert gram is not None
    assert gram.distances[0, 1] == pytest.approx(true, rel=1e-5)


def test_result_does_not_depend_on_the_number_of_workers() -> None:
    states = [{f"w{i}": s["w"] * i for i in range(1, 9)} for s in draws(torch.bfloat16)]
    one, few = run(states, RULES[2], workers=1), run(states, RULES[2], workers=5)
    assert all(one[0][name].equal(few[0][name]) for name in one[0])
    assert list(one[1]) == list(few[1]) == list(one[0]), "sums over tensors go in one order"
    for name, record in one[1].items():
        assert record.to_json() == few[1][name].to_json()


def test_record_survives_json() -> None:
    _, records = run(draws(torch.float32), RULES[0])
    record = records["w"]
    again = TensorRecord.from_json(record.to_json())
    assert again.to_json() == record.to_json()


@pytest.mark.parametrize("rule", [RULES[0], RULES[2]], ids=lambda rule: rule.name)
def test_nan_is_named(rule: Rule) -> None:
    states = draws(torch.bfloat16)
    states[1]["w"][[5, 29_000]] = torch.tensor([torch.nan, torch.inf], dtype=torch.bfloat16)
    with pytest.raises(NonFiniteError, match=r"NaN or infinite elements in m1 \(2\)") as error:
        run(states, rule)
    assert error.value.where == "tensor w"
    merged, records = run(states, rule, allow_nonfinite=True)
    assert records["w"].nonfinite == (0, 2, 0)
    assert torch.isfinite(merged["w"]).sum() == merged["w"].numel() - 2


def test_large_values_are_not_mistaken_for_infinities() -> None:
    """Their squares overflow float32; they do not."""
    states = [{"w": torch.tensor([v, -v]).bfloat16()} for v in (1e30, 2e30)]
    merged, records = run(states, Slerp(0.5, "linear"))
    assert torch.isfinite(merged["w"]).all()
    assert records["w"].branch == "linear: parallel"


def test_overflow_of_the_output_dtype_is_refused() -> None:
    with pytest.raises(NonFiniteError, match=r"1e\+06 do not fit F16 \(6\.55e\+04\)"):
        run([{"w": torch.tensor([1e6])}], Linear((1.0,)), dtype="F16")
    with pytest.raises(NonFiniteError, match=r"do not fit F32"):
        run([{"w": torch.tensor([1e300], dtype=torch.float64)}], Linear((1.0,)), dtype="F32")


def test_antipodal_tensor_is_named() -> None:
    states = [{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([-1.0, -2.0])}]
    with pytest.raises(AntipodalError, match="no unique arc") as error:
        run(states, Slerp(0.5))
    assert error.value.where == "tensor w"


def test_unknown_device() -> None:
    with pytest.raises(ArgumentError, match="device 'gpu7' cannot be used"):
        kernel_for("gpu7")


@pytest.mark.parametrize("factor", [-1, -2, -0.5])
def test_opposite_half_precision_tensors_are_told_apart_from_an_arc(factor: float) -> None:
    """An angle error of 1e-3 near pi would give coefficients of thousands."""
    first = draws(torch.bfloat16)[0]["w"]
    with pytest.raises(AntipodalError, match="no unique arc"):
        run([{"w": first}, {"w": first * factor}], Slerp(0.5))


def test_weights_without_a_positive_one_leave_statistics_in_the_middle() -> None:
    states = [{"bn.running_var": torch.tensor([v])} for v in (1.0, 3.0)]
    merged, _ = run(states, Linear((0.0, -1.0)))
    assert merged["bn.running_var"].item() == 2


def test_a_tensor_can_be_made_of_some_anchors_alone() -> None:
    """By a rule of its own over these, whatever the donor has."""
    first, second, third = draws(torch.float32, 3)
    first["only"], third["x"], second["x"] = torch.ones(3), torch.ones(4), torch.full((4,), 3.0)
    anchors = tuple(of_state(state, f"m{i}") for i, state in enumerate((first, second, third)))
    rules = {"x": Linear((0.25, 0.75)), "only": Linear((2.0,))}
    takers = {"x": (1, 2), "only": (0,)}
    blend = Blend(anchors, Karcher((0.5, 0.25, 0.25)), None, rules, takers, ("x", "w", "only"))
    sink = MemorySink(blend)
    records = stream(blend, sink)
    assert list(sink.state) == ["x", "w", "only"]
    assert torch.equal(sink.state["x"], torch.full((4,), 1.5))
    assert torch.equal(sink.state["only"], torch.full((3,), 2.0))
    assert records["x"].coefficients == (0.0, 0.25, 0.75)
    assert records["only"].coefficients == (2.0, 0.0, 0.0)
    assert records["w"].gram is not None
    assert len(records["w"].gram.norms) == 3


def test_a_tensor_of_one_anchor_is_copied_to_the_bit() -> None:
    """Negative zeros and integers too."""
    first, second = {"w": torch.ones(2)}, {"w": torch.ones(2), "z": torch.tensor([-0.0, 1e-45])}
    second["n"] = torch.arange(3)
    anchors = (of_state(first, "a"), of_state(second, "b"))
    alone = Linear((1.0,))
    takers = {"z": (1,), "n": (1,)}
    blend = Blend(anchors, Linear((0.5, 0.5)), None, {"z": alone}, takers, ("w", "z", "n"))
    sink = MemorySink(blend)
    records = stream(blend, sink)
    assert torch.equal(sink.state["z"].view(torch.int32), second["z"].view(torch.int32))
    assert torch.equal(sink.state["n"], second["n"])
    assert records["n"].branch == "copied"


def test_what_is_not_finite_is_told_of_its_own_anchor() -> None:
    first, second = {"w": torch.ones(2)}, {"w": torch.ones(2), "z": torch.tensor([float("nan")])}
    anchors = (of_state(first, "a"), of_state(second, "b"))
    rules = {"z": Linear((1.0,))}
    blend = Blend(anchors, Linear((0.5, 0.5)), None, rules, {"z": (1,)}, ("w", "z"))
    with pytest.raises(NonFiniteError, match=r"elements in b \(1\)"):
        stream(blend, MemorySink(blend))
