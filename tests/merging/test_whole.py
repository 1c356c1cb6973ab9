"""Rules that see matrices whole: which, one at a time, rounded once, in memory that is told."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.errors import DataError, NonFiniteError
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import ModelWeights, Rule
from mergekit_geo.merging import tensor as chunks
from mergekit_geo.merging import whole
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.native import NativeKernel
from mergekit_geo.merging.stream import stream
from mergekit_geo.merging.tensor_record import TensorRecord
from mergekit_geo.merging.whole import Made, Whole, is_linear_layer, largest_need, no_tick

LAYER, EMBEDDINGS = "model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"
FLOATS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


@dataclass(frozen=True)
class Product(Whole):
    """a_0 + factor a_1 a_0ᵀ a_1: nothing that chunks could tell."""

    factor: float = 1.0
    name = "product"

    @property
    def weights(self) -> ModelWeights:
        return (0.25, 0.75)

    @property
    def others(self) -> Rule:
        return Linear((0.5, 0.5))

    def memory(self, shape: tuple[int, ...], count: int) -> int:
        return 10**6 * count * shape[0] * shape[1]

    def make(
        self, name: str, tensors: Sequence[Tensor], device: str, tick: Callable[[], None] = no_tick
    ) -> Made:
        tick()
        a, b = tensors
        return Made(a + self.factor * (b @ a.T @ b), "product", 1e-9)


@pytest.fixture(autouse=True, params=["native", "torch"])
def _kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In short chunks, by either kernel."""
    monkeypatch.setattr(chunks, "CHUNK", 100)
    if request.param == "torch":
        monkeypatch.setattr(NativeKernel, "is_built", lambda: False)


def states(dtype: torch.dtype = torch.float32) -> list[dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    shapes = {LAYER: (33, 20), EMBEDDINGS: (20, 33), "model.norm.weight": (20,)}
    return [
        {name: torch.randn(shape, generator=draw).to(dtype) for name, shape in shapes.items()}
        for _ in range(2)
    ]


def run(
    models: Sequence[dict[str, Tensor]], rule: Rule, dtype: str | None = None, **options: object
) -> tuple[dict[str, Tensor], dict[str, TensorRecord]]:
    blend = Blend(tuple(of_state(one, f"m{i}") for i, one in enumerate(models)), rule, dtype)
    sink = MemorySink(blend)
    records = stream(blend, sink, **options)  # type: ignore[arg-type]
    return sink.state, records


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_matrices_are_seen_whole_and_rounded_once(dtype: torch.dtype) -> None:
    models = states(dtype)
    merged, records = run(models, Product())
    exact = torch.float32 if dtype in (torch.bfloat16, torch.float16) else torch.float64
    a, b = (one[LAYER].to(exact) for one in models)
    assert torch.equal(merged[LAYER], (a + b @ a.T @ b).to(dtype))
    record = records[LAYER]
    assert (record.branch, record.coefficients, record.error) == ("product", (0.25, 0.75), 1e-9)
    assert record.gram is not None
    assert record.gram.norms[0] == pytest.approx(float(a.norm()), rel=1e-5)
    assert TensorRecord.from_json(record.to_json()).error == 1e-9


def test_all_other_tensors_follow_another_rule() -> None:
    models = states()
    merged, records = run(models, Product())
    for name in (EMBEDDINGS, "model.norm.weight"):
        assert torch.equal(merged[name], (models[0][name] + models[1][name]) / 2)
        assert records[name].branch == "linear"


@pytest.mark.parametrize(
    ("name", "shape", "taken"),
    [
        ("h.3.attn.c_attn.weight", (4, 12), True),
        ("linear.weight", (4, 12), True),
        ("h.3.attn.c_attn.bias", (12,), False),
        ("h.3.gate.weight", (1, 12), False),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", (32, 4), False),
        ("transformer.wpe.weight", (16, 4), False),
        ("lm_head.weight", (16, 4), False),
        ("score.weight", (3, 4), False),
        ("model.layers.0.mlp.experts.gate_up_proj", (2, 16, 4), False),
    ],
)
def test_weights_of_linear_layers_are_taken(name: str, shape: tuple[int, ...], taken: bool) -> None:
    assert is_linear_layer(name, TensorInfo("F32", shape)) is taken


def test_a_tensor_that_is_not_finite_goes_by_the_mean() -> None:
    models = states()
    models[1][LAYER][3, 4] = torch.nan
    with pytest.raises(NonFiniteError, match=r"up_proj.*NaN or infinite elements in m1 \(1\)"):
        run(models, Product())
    merged, records = run(models, Product(), allow_nonfinite=True)
    assert records[LAYER].branch == "linear: not finite"
    mean = 0.25 * models[0][LAYER] + 0.75 * models[1][LAYER]
    torch.testing.assert_close(merged[LAYER], mean, equal_nan=True)


def test_what_the_dtype_cannot_hold_is_told() -> None:
    models = states(torch.float16)
    with pytest.raises(NonFiniteError, match="do not fit F16"):
        run(models, Product(1e5))
    merged, records = run(models, Product(1e5), allow_nonfinite=True)
    assert records[LAYER].lost == int((~merged[LAYER].isfinite()).sum()) > 0


def test_one_tensor_at_a_time_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = threading.Semaphore(1), []
    plain = Product.make

    def alone(self: Product, *rest: object) -> Made:
        most.append(inside.acquire(blocking=False))
        found = plain(self, *rest)  # type: ignore[arg-type]
        inside.release()
        return found

    monkeypatch.setattr(Product, "make", alone)
    models = [{f"layers.{i}.w": one[LAYER].clone() for i in range(8)} for one in states()]
    merged, _ = run(models, Product(), workers=4)
    assert most == [True] * 8
    assert all(torch.equal(tensor, merged["layers.0.w"]) for tensor in merged.values())


def test_tensors_too_large_for_the_memory_are_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = states()
    monkeypatch.setattr(whole, "free_memory", lambda device: 10**9)
    blend = Blend(tuple(of_state(one, "m") for one in models), Product())
    need = largest_need(blend)
    assert need is not None
    assert (need.tensor, need.nbytes) == (LAYER, 1_320_000_000)
    said = r"up_proj.weight: a tensor of 33 x 20 is.* takes 1.32 GB of memory, and 1.00"
    with pytest.raises(DataError, match=said):
        run(models, Product())
    assert largest_need(Blend(blend.anchors, Linear((0.5, 0.5)))) is None
