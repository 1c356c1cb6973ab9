"""What was finite and is not any more is an error with its count, whatever the method and dtype.

The truth comes from the methods being homogeneous: models scaled down by a power of two are merged
in float64, far from the end of any range, and the result is scaled up again and rounded once.
"""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergekit_geo.checkpoints.dtypes import TORCH_DTYPES
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.errors import ArgumentError, NonFiniteError
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.masked import Masked, Sce
from mergekit_geo.geometry.model_stock import model_stock
from mergekit_geo.geometry.multislerp import MultiSlerp
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.geometry.sparsifiers import Breadcrumbs, Dropout, MagPrune, TopK, VarianceTopK
from mergekit_geo.geometry.sphere import Karcher, Slerp
from mergekit_geo.geometry.task_vectors import task_arithmetic
from mergekit_geo.merging import tensor
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.native import NativeKernel
from mergekit_geo.merging.stream import stream
from mergekit_geo.merging.tensor_record import TensorRecord

DOWN = {"F16": 2.0**-8, "BF16": 2.0**-100, "F32": 2.0**-100, "F64": 2.0**-600}
COUNT, ROWS = 7, 3


def masked(name: str, kept: object, **options: object) -> Masked:
    return Masked(name, (1.0, 0.75), (kept, kept), **options)  # type: ignore[arg-type]


RULES: dict[str, Rule] = {
    "soup": Linear((1.5, -0.5, 1.0)),
    "sum": Linear((1.0, 1.0, 1.0)),
    "passthrough": Linear((2.0, 0.0, 0.0)),
    "task_arithmetic": task_arithmetic([1.0, 0.75]),
    "karcher": Karcher((0.25, 0.5, 0.25), "linear"),
    "multislerp": MultiSlerp((1.0, 1.0, 0.5)),
    "model_stock": model_stock(2),
    "ties": masked("ties", TopK(0.5), elect=True),
    "ties, normalised": masked("ties", TopK(1.0), elect=True, normalize=True, scale=2.0),
    "dare_linear": masked("dare_linear", Dropout(0.5), rescale=True),
    "dare_ties": masked("dare_ties", Dropout(0.5), elect=True, rescale=True),
    "della": masked("della", MagPrune(0.5), elect=True, rescale=True, normalize=True),
    "breadcrumbs": masked("breadcrumbs", Breadcrumbs(0.5, 0.1)),
    "sce": Sce(2, VarianceTopK(1.0)),
}
SLERP = ("slerp", Slerp(0.25, "linear"))


def merged(
    rows: list[Tensor], rule: Rule, dtype: str, *, allow: bool = True
) -> tuple[Tensor, TensorRecord]:
    anchors = tuple(of_state({"w": row}, f"m{i}") for i, row in enumerate(rows))
    blend = Blend(anchors, rule, dtype)
    sink = MemorySink(blend)
    records = stream(blend, sink, allow_nonfinite=allow, workers=1)
    return sink.state["w"], records["w"]


@pytest.fixture(params=["native", "plain"])
def _kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor, "CHUNK", 3)
    if request.param == "plain":
        monkeypatch.setattr(NativeKernel, "is_built", lambda: False)


STEPS = [0.0, 0.01, 0.25, 0.5, 0.75, 1.0]
ELEMENTS = st.sampled_from([sign * step for step in STEPS for sign in (1, -1)])


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("name", [*RULES, SLERP[0]])
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(
    shares=st.lists(st.lists(ELEMENTS, min_size=COUNT, max_size=COUNT), min_size=3, max_size=3),
    stored=st.sampled_from(["F16", "BF16", "F32"]),
    dtype=st.sampled_from(["F16", "BF16", "F32", "F64"]),
)
def test_what_is_lost_is_counted(
    name: str, shares: list[list[float]], stored: str, dtype: str
) -> None:
    rule = SLERP[1] if name == SLERP[0] else RULES[name]
    most = torch.finfo(TORCH_DTYPES[stored]).max
    rows = [(torch.tensor(row).double() * most).to(TORCH_DTYPES[stored]) for row in shares]
    rows = rows[: 2 if isinstance(rule, Slerp) else 3]
    small, _ = merged([row.double() * DOWN[stored] for row in rows], rule, "F64")
    exact = small / DOWN[stored]
    expected = exact.to(TORCH_DTYPES[dtype])
    found, record = merged(rows, rule, dtype)
    count = int((~expected.isfinite()).sum())
    assert record.lost == count
    assert found.isfinite().equal(expected.isfinite())
    close = 2 * torch.finfo(expected.dtype).eps if dtype in {"F16", "BF16"} else 1e-6
    finite = expected.isfinite()
    size = float(exact[finite].abs().max()) if finite.any() else 0.0
    torch.testing.assert_close(
        found[finite].double(), exact[finite], rtol=close, atol=close * max(size, 1e-5)
    )
    if count:
        noun = "1 element is" if count == 1 else f"{count} elements are"
        with pytest.raises(NonFiniteError, match=f"^tensor w: {noun} finite in every model"):
            merged(rows, rule, dtype, allow=False)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("name", RULES)
def test_the_largest_numbers_survive_where_they_fit(name: str) -> None:
    """Of equal models a mean is each of them; none of the sums on the way there matters."""
    for dtype in ("BF16", "F16", "F32", "F64"):
        most = torch.finfo(TORCH_DTYPES[dtype]).max
        row = torch.tensor([most, -most, 1.0], dtype=TORCH_DTYPES[dtype])
        found, record = merged([row] * 3, Linear((0.5, 0.25, 0.25)), dtype, allow=False)
        assert found.equal(row)
        assert record.lost == 0
        if isinstance(RULES[name], Masked | Sce):
            assert merged([row] * 3, RULES[name], dtype, allow=False)[0].equal(row)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize(
    ("weights", "why"),
    [((1e200, 1e200), "values up to 3e\\+200 do not fit F32"), ((1e308, 1e308), "overflows")],
)
def test_weights_beyond_all_range(weights: tuple[float, float], why: str) -> None:
    rows = [torch.tensor([1.0, 0.0, 1.5])] * 2
    with pytest.raises(NonFiniteError, match=f"2 elements are .*{why}"):
        merged(rows, Linear(weights), "F32", allow=False)
    masks = (TopK(1.0),)
    with pytest.raises(NonFiniteError, match="1 element is"):
        merged(
            [torch.zeros(2), torch.tensor([0.0, 1.0])], Masked("ties", (1e200,), masks), "F32",
            allow=False,
        )  # fmt: skip
    with pytest.raises(ArgumentError, match="too large to be summed"):
        Masked("ties", (1e308, 1e308), (*masks, *masks), normalize=True)


@pytest.mark.usefixtures("_kernels")
def test_sums_of_squares_beyond_float64_are_told() -> None:
    rows = [
        torch.zeros(3).double(),
        torch.tensor([1e200] * 3, dtype=torch.float64),
        torch.ones(3).double(),
    ]
    with pytest.raises(NonFiniteError, match="3 elements are finite in every model"):
        merged(rows, RULES["sce"], "F64", allow=False)
    found, _ = merged(rows, RULES["dare_linear"], "F64", allow=False)
    assert found.isfinite().all()


@pytest.mark.usefixtures("_kernels")
def test_what_was_not_finite_before_is_not_lost() -> None:
    rows = [torch.tensor([torch.nan, 3e38, 1.0]), torch.tensor([1.0, 3e38, 2.0])]
    _, record = merged(rows, Linear((1.0, 1.0)), "F32")
    assert (record.lost, record.nonfinite) == (1, (1, 0))
    with pytest.raises(NonFiniteError, match=re.escape("NaN or infinite elements in m0 (1)")):
        merged(rows, Linear((1.0, 1.0)), "F32", allow=False)


def test_rounding_to_a_narrower_dtype() -> None:
    row = torch.tensor([3.4e38, 3.38e38, -3.4e38])
    with pytest.raises(NonFiniteError, match=r"2 elements .* up to 3\.4e\+38 do not fit BF16"):
        merged([row], Linear((1.0,)), "BF16", allow=False)
    assert merged([row], Linear((1.0,)), "F32", allow=False)[0].equal(row)


def test_statistics_of_weights_that_overflow_are_means() -> None:
    anchors = tuple(of_state({"bn.running_var": torch.tensor([v])}, "m") for v in (1.0, 3.0))
    sink = MemorySink(blend := Blend(anchors, Linear((1e308, 1e308))))
    stream(blend, sink)
    assert sink.state["bn.running_var"].item() == 2
