"""Products of the Hessian against dense matrices, naive double gradients and curvlinops."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call, grad, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

from mergekit_geo.curvature.hessian import CHANGE, RANGE, STEPS, Hessian
from mergekit_geo.curvature.lanczos import lanczos, random_start
from mergekit_geo.curvature.levels import DIFFERENCES, EXACT, PRODUCT_COST
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.errors import ArgumentError, DataError, UnsupportedError

Losses = tuple[Tensor, Tensor]
Piece = Callable[[nn.Module], Losses]
VOCABULARY, LENGTH = 40, 10


@pytest.fixture
def doubles() -> Iterator[None]:
    """New tensors are float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# Models and their losses


def build(kind: str, attention: str = "sdpa", **options: Any) -> PreTrainedModel:
    """A tiny random model; the same weights for every attention."""
    shared = {"attn_implementation": attention, "initializer_range": 0.2, **options}
    tiny = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        **shared,
    }
    gpt2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16, **shared}
    torch.manual_seed(0)
    if kind == "llama":
        config = LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=1, **tiny)
        return LlamaForCausalLM(config).eval()
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **gpt2)).eval()
    if kind == "bert":
        return BertForMaskedLM(BertConfig(vocab_size=VOCABULARY, **tiny)).eval()
    config = ViTConfig(image_size=8, patch_size=4, num_channels=1, num_labels=5, **tiny)
    return ViTForImageClassification(config).eval()


def text_piece(seed: int, count: int) -> Piece:
    """Mean loss of each row's tokens but the first, with unequal weights and a padded row.

    Token 0 pads: BERT's embedding gives it no gradient.
    """
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, VOCABULARY, (count, LENGTH), generator=draw)
    mask = torch.ones_like(ids)
    mask[-1, -3:] = 0
    weights = 1 + 9 * torch.rand(count, generator=draw)

    def piece(model: nn.Module) -> Losses:
        logits = model(input_ids=ids, attention_mask=mask).logits
        labels = ids.masked_fill(mask == 0, -100)[:, 1:]
        losses = cross_entropy(logits[:, :-1].transpose(1, 2), labels, reduction="none")
        return losses.sum(dim=1) / mask[:, 1:].sum(dim=1), weights.to(losses)

    return piece


def image_piece(seed: int, count: int) -> Piece:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, 8, 8, generator=draw, dtype=torch.float64)
    labels = torch.randint(0, 5, (count,), generator=draw)
    weights = 1 + 9 * torch.rand(count, generator=draw)

    def piece(model: nn.Module) -> Losses:
        logits = model(images.to(torch.get_default_dtype())).logits
        return cross_entropy(logits, labels, reduction="none"), weights.to(logits)

    return piece


def pieces_of(kind: str) -> list[Piece]:
    make = image_piece if kind == "vit" else text_piece
    return [make(1, 3), make(2, 2)]


def naive_mean(model: Any, pieces: Sequence[Piece]) -> Tensor:
    found = [piece(model) for piece in pieces]
    loss = sum((losses * weights).sum() for losses, weights in found)
    return loss / sum(weights.sum() for _, weights in found)


def at(model: nn.Module, own: dict[str, Tensor]) -> Callable[..., Any]:
    """The model with other parameters."""

    def call(*inputs: Any, **named: Any) -> Any:
        return functional_call(model, own, inputs, named)

    return call


def forward_over_reverse(model: nn.Module, pieces: Sequence[Piece], vector: Tensor) -> Tensor:
    """The derivative of the gradient along a vector, by forward mode, of all batches in one."""
    start = {name: p.detach() for name, p in model.named_parameters()}
    parts = vector.split([p.numel() for p in start.values()])
    along = {name: part.view_as(start[name]) for name, part in zip(start, parts, strict=True)}
    slope = grad(lambda own: naive_mean(at(model, own), pieces))
    return flattened(list(jvp(slope, (start,), (along,))[1].values()))


def flattened(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.detach().flatten() for part in parts])


def relative(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).double().norm() / truth.double().norm())


def directions(loss: MeanLoss) -> tuple[Tensor, Tensor]:
    size, dtype = loss.weights.size, loss.weights.dtype
    return random_start(size, dtype, 1), random_start(size, dtype, 2)


class Point(nn.Module):
    """Two vectors of parameters."""

    def __init__(self, x: Tensor, y: Tensor | None = None) -> None:
        super().__init__()
        self.x = nn.Parameter(x.clone())
        self.y = nn.Parameter(torch.ones(2, dtype=x.dtype) if y is None else y.clone())


def function(of: Callable[[Point], Tensor], x: Tensor) -> MeanLoss:
    """A function of a point as a mean loss."""
    return MeanLoss(Point(x), [lambda model: (of(model)[None], torch.ones(1, dtype=x.dtype))])


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()


def network_pieces() -> list[Piece]:
    """Batches of unequal size and weight."""

    def make(seed: int, count: int) -> Piece:
        draw = torch.Generator().manual_seed(seed)
        inputs = torch.randn(count, 5, generator=draw, dtype=torch.float64)
        labels = torch.randint(0, 3, (count,), generator=draw)
        weights = 10 * torch.rand(count, generator=draw, dtype=torch.float64)
        return lambda model: (cross_entropy(model(inputs), labels, reduction="none"), weights)

    return [make(1, 4), make(2, 9), make(3, 1)]


def dense(model: nn.Module, pieces: Sequence[Piece]) -> Tensor:
    """The whole Hessian (n, n) of the trainable parameters, by torch's own function."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    sizes = [p.numel() for p in named.values()]

    def loss(flat: Tensor) -> Tensor:
        parts = zip(named.items(), flat.split(sizes), strict=True)
        return naive_mean(at(model, {name: part.view_as(p) for (name, p), part in parts}), pieces)

    hessian = torch.autograd.functional.hessian(loss, flattened(list(named.values())))
    assert isinstance(hessian, Tensor)
    return hessian


# Values


KINDS = ["llama", "gpt2", "bert", "vit"]


@pytest.mark.parametrize("kind", KINDS)
def test_exact_products_are_those_of_eager_attention_by_forward_mode(kind: str) -> None:
    pieces = pieces_of(kind)
    hessian = Hessian(MeanLoss(build(kind), pieces))
    assert hessian.loss.model.config._attn_implementation == "sdpa"
    for vector in directions(hessian.loss):
        eager = forward_over_reverse(build(kind, "eager"), pieces, vector)
        assert relative(hessian.product(vector), eager) < 1e-5
    assert (hessian.method, hessian.reason) == (EXACT, "")


@pytest.mark.parametrize("kind", KINDS)
def test_differences_tend_to_exact_products_by_the_square_of_the_step(
    kind: str, doubles: None
) -> None:
    loss = MeanLoss(build(kind), pieces_of(kind))
    for vector in directions(loss):
        exact = Hessian(loss).product(vector)
        near, far = (Hessian(loss, DIFFERENCES, step).product(vector) for step in (2e-2, 4e-2))
        assert relative(far, exact) / relative(near, exact) == pytest.approx(4, rel=0.1)
        assert relative((4 * near - far) / 3, exact) < 1e-4


@pytest.mark.parametrize("kind", ["gpt2", "bert", "vit"])
def test_differences_of_float64_are_right(kind: str, doubles: None) -> None:
    """Not Llama's: its norms and softmax stay in float32."""
    loss = MeanLoss(build(kind), pieces_of(kind))
    for vector in directions(loss):
        found = Hessian(loss, DIFFERENCES).product(vector)
        assert relative(found, Hessian(loss).product(vector)) < 3e-8


@pytest.mark.parametrize("kind", KINDS)
def test_differences_of_float32_are_right_to_a_thousandth(kind: str) -> None:
    loss = MeanLoss(build(kind), pieces_of(kind))
    for vector in directions(loss):
        found = Hessian(loss).product(vector)
        assert relative(Hessian(loss, DIFFERENCES).product(vector), found) < 1e-3
        assert relative(Hessian(loss, DIFFERENCES, 1e-2).product(vector), found) < 3e-4


def test_every_column_is_that_of_the_dense_hessian() -> None:
    model, pieces = network(), network_pieces()
    truth = dense(model, pieces)
    loss = MeanLoss(model, pieces)
    columns = [torch.eye(len(truth), dtype=torch.float64)[i] for i in range(len(truth))]
    for method, error in ((EXACT, 1e-12), (DIFFERENCES, 1e-6)):
        hessian = Hessian(loss, method)
        found = torch.stack([hessian.product(column) for column in columns])
        assert relative(found, truth) < error
        assert hessian.method == method


def test_frozen_parameters_are_no_part_of_it() -> None:
    model, pieces = network(), network_pieces()
    whole = dense(model, pieces)
    model[0].weight.requires_grad_(False)
    free = whole[35:, 35:]
    loss = MeanLoss(model, pieces)
    vector = random_start(len(free), torch.float64, 0)
    for method, error in ((EXACT, 1e-12), (DIFFERENCES, 1e-6)):
        assert relative(Hessian(loss, method).product(vector), free @ vector) < error
    assert loss.weights.size == len(whole) - 35


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_tied_weights_are_there_once(kind: str) -> None:
    """The product is that of the untied model, seen from where both are the same."""
    pieces = pieces_of(kind)
    tied = build(kind, tie_word_embeddings=True)
    untied = build(kind, tie_word_embeddings=False)
    untied.load_state_dict(tied.state_dict())
    tied_loss, untied_loss = MeanLoss(tied, pieces), MeanLoss(untied, pieces)
    embedding = tied.get_input_embeddings().weight.numel()
    assert untied_loss.weights.size == tied_loss.weights.size + embedding
    vector, _ = directions(tied_loss)
    twice = torch.cat([vector, vector[:embedding]])  # the embedding is first, the head last
    apart = Hessian(untied_loss).product(twice)
    apart[:embedding] += apart[-embedding:]
    assert relative(Hessian(tied_loss).product(vector), apart[:-embedding]) < 1e-5
    difference = Hessian(tied_loss, DIFFERENCES, 1e-2)
    assert relative(difference.product(vector), apart[:-embedding]) < 3e-4


@pytest.mark.parametrize("method", [EXACT, DIFFERENCES])
def test_operator_is_symmetric_and_linear(method: str) -> None:
    loss = MeanLoss(build("llama"), pieces_of("llama"))
    hessian = Hessian(loss, method)
    u, v = directions(loss)
    hu, hv = hessian.product(u), hessian.product(v)
    assert float(u @ hv) == pytest.approx(float(v @ hu), abs=1e-4 * float(hu.norm()))
    assert relative(hessian.product(-30 * u + v), hv - 30 * hu) < 1e-3
    assert torch.equal(hessian.product(torch.zeros_like(u)), torch.zeros_like(u))


@pytest.mark.parametrize("unused", [False, True])
@pytest.mark.parametrize("method", [EXACT, DIFFERENCES])
def test_linear_loss_has_no_curvature(method: str, unused: bool) -> None:
    x = torch.linspace(-2, 3, 6, dtype=torch.float64)
    loss = function(lambda p: (x * p.x).sum() + (0 if unused else p.y.sum()), x)
    found = Hessian(loss, method)
    torch.testing.assert_close(found.product(torch.ones(8).double()), torch.zeros(8).double())
    assert (found.method, found.reason) == (method, "")


@pytest.mark.parametrize("method", [EXACT, DIFFERENCES])
def test_parameters_that_the_loss_bends_along_or_not(method: str) -> None:
    """A parabola in x; y does not matter, matters linearly, or through x."""
    x = torch.linspace(-2, 3, 6, dtype=torch.float64)
    v = torch.arange(1.0, 9.0, dtype=torch.float64)
    ways: list[tuple[Callable[[Point], Tensor], float]] = [
        (lambda p: 2 * p.x @ p.x, 0.0),
        (lambda p: 2 * p.x @ p.x + 7 * p.y.sum(), 0.0),
        (lambda p: 2 * p.x @ p.x + 7 * p.x.sum() * p.y.sum(), 7.0),
    ]
    for of, cross in ways:
        truth = torch.cat([4 * v[:6] + cross * v[6:].sum(), cross * v[:6].sum().expand(2)])
        found = Hessian(function(of, x), method).product(v)
        torch.testing.assert_close(found, truth, rtol=1e-8, atol=1e-8)


# Where products are not exact


class Grudging(torch.autograd.Function):
    """The square, whose gradient fails where it is to be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, error: Exception) -> Tensor:
        ctx.save_for_backward(x)
        ctx.error = error
        return x**2

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():
            raise ctx.error
        return 2 * ctx.saved_tensors[0] * slope, None


class Once(torch.autograd.Function):
    """Attention as a kernel of one's own has it: with a gradient, and no second one."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        return scaled_dot_product_attention(q, k, v)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            inputs = [tensor.detach().requires_grad_() for tensor in ctx.saved_tensors]
            return torch.autograd.grad(scaled_dot_product_attention(*inputs), inputs, slope)


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Torch's own attention, with a kernel that the caller cannot choose."""
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """One layer of it, with the kernel given."""

    def __init__(self, kernel: Callable[..., Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.out, self.kernel = nn.Linear(6, 18), nn.Linear(6, 3), kernel

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x)[:, None].chunk(3, dim=-1)
        return self.out(self.kernel(q, k, v)[:, 0]).mean(dim=1)


@pytest.mark.parametrize("kernel", [Once.apply, fused])
def test_attention_that_cannot_be_differentiated_twice(kernel: Callable[..., Tensor]) -> None:
    draw = torch.Generator().manual_seed(3)
    inputs, labels = torch.randn(5, 4, 6, generator=draw), torch.tensor([0, 1, 2, 1, 0])

    def piece(model: nn.Module) -> Losses:
        return cross_entropy(model(inputs), labels, reduction="none"), torch.ones(5)

    truth = Hessian(MeanLoss(Attention(scaled_dot_product_attention), [piece]))
    hessian = Hessian(MeanLoss(Attention(kernel), [piece]))
    for vector in directions(hessian.loss):
        assert relative(hessian.product(vector), truth.product(vector)) < 1e-3
    assert truth.method == EXACT
    assert hessian.method == DIFFERENCES
    assert hessian.reason.startswith("the model cannot be differentiated twice (")
    assert "\n" not in hessian.reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "out of memory for the graph"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: "
                "you tried to allocate 900000000000 bytes. Error code 12 (Cannot allocate memory)"
            ),
            "out of memory for the graph",
        ),
        (RuntimeError("no derivative\nof this"), r"cannot be differentiated twice \(no deriv.*e\)"),
    ],
)
def test_product_that_fails_in_the_middle_gives_way(error: Exception, reason: str) -> None:
    """The first batch's part is not in the result; what fails is not tried again."""
    tried: list[int] = []

    def easy(model: nn.Module) -> Losses:
        tried.append(1)
        return 3 * (model.x**2).sum()[None], torch.ones(1).double()

    def hard(model: nn.Module) -> Losses:
        return Grudging.apply(model.x, error).sum()[None], torch.ones(1).double()

    loss = MeanLoss(Point(torch.linspace(-2, 3, 6).double()), [easy, hard])
    hessian = Hessian(loss)
    for _ in range(2):
        found = hessian.product(torch.arange(8.0).double())
        truth = torch.cat([4 * torch.arange(6.0), torch.zeros(2)]).double()
        torch.testing.assert_close(found, truth, rtol=1e-8, atol=1e-8)
    assert hessian.method == DIFFERENCES
    assert re.search(reason, hessian.reason)
    assert len(tried) == 1 + 2 * 2


def test_error_of_ours_is_no_reason_to_give_way() -> None:
    def piece(model: nn.Module) -> Losses:
        raise DataError("out of order")

    hessian = Hessian(MeanLoss(network(), [piece]))
    with pytest.raises(DataError, match="out of order"):
        hessian.product(torch.ones(hessian.loss.weights.size).double())
    assert (hessian.method, hessian.reason) == (EXACT, "")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("method", [EXACT, DIFFERENCES])
def test_loss_that_is_not_finite_is_refused(method: str, value: float) -> None:
    x = torch.ones(6).double()
    loss = function(lambda point: (point.x**2).sum() * value, x)
    with pytest.raises(DataError, match="the loss is not a number"):
        lanczos(Hessian(loss, method).product, random_start(8, torch.float64, 0), 3)
    assert torch.equal(loss.weights.vector()[:6], x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_back_to_the_bit(dtype: torch.dtype) -> None:
    calls: list[int] = []

    def piece(model: nn.Module) -> Losses:
        calls.append(1)
        if len(calls) == 4:
            raise DataError("out of order")
        return (model.x**3).sum()[None], torch.ones(1, dtype=dtype)

    draw = torch.Generator().manual_seed(0)
    model = Point(torch.randn(1000, generator=draw, dtype=dtype) / 3)
    loss = MeanLoss(model, [piece])
    before = loss.weights.vector()
    hessian, vector = Hessian(loss, DIFFERENCES), random_start(1002, dtype, 0)
    hessian.product(vector)
    assert torch.equal(loss.weights.vector(), before)
    with pytest.raises(DataError, match="out of order"):  # in the second of two gradients
        hessian.product(vector)
    assert len(calls) == 4
    assert torch.equal(loss.weights.vector(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


# Step and cost


@pytest.mark.parametrize(
    ("curvature", "factor"),
    [(1.0, None), (-7.0, None), (1e9, 1 / RANGE), (1e-9, RANGE), (0, RANGE)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_step_changes_the_loss_by_so_much(
    dtype: torch.dtype, curvature: float, factor: float | None
) -> None:
    loss = function(lambda point: curvature / 2 * point.x @ point.x, torch.zeros(6, dtype=dtype))
    hessian = Hessian(loss, DIFFERENCES)
    direction = torch.zeros(8, dtype=dtype)
    direction[:6] = 6**-0.5
    hessian.fit_step(direction)
    if factor is None:
        assert abs(curvature) / 2 * hessian.step**2 == pytest.approx(CHANGE[dtype], rel=1e-3)
    else:
        assert hessian.step == pytest.approx(factor * STEPS[dtype])


def test_step_of_a_difference_is_what_is_asked_for() -> None:
    """On a fourth power, the error of a central difference is known."""
    loss = function(lambda point: (point.x**4).sum(), torch.zeros(6, dtype=torch.float64))
    vector = torch.zeros(8, dtype=torch.float64)
    vector[0] = 5.0
    for step in (0.5, 1e-2):
        found = Hessian(loss, DIFFERENCES, step).product(vector)
        assert float(found[0]) == pytest.approx(4 * step**2 * 5)


def test_cost_is_told() -> None:
    spent: list[float] = []
    loss = MeanLoss(network(), network_pieces(), spent.append)
    vector = random_start(loss.weights.size, torch.float64, 0)
    Hessian(loss).product(vector)
    assert spent == [PRODUCT_COST] * 3
    spent.clear()
    Hessian(loss, DIFFERENCES).product(vector)
    assert sum(spent) == 2 * 3


# Models that have none


def test_model_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"no trainable parameter.*requires_grad_\(True\)"):
        MeanLoss(network().requires_grad_(False), network_pieces())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(UnsupportedError, match=rf"sharpness in {dtype} is noise.*model\.float"):
        MeanLoss(network().to(dtype), network_pieces())


# curvlinops, another implementation


class Logits(nn.Module):
    """A causal model from ids (b, l) to logits (b, v, l - 1)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(input_ids=ids, use_cache=False).logits[:, :-1].transpose(1, 2)


class PlainNorm(nn.Module):
    """A layer norm written out: jvp of jacrev, as curvlinops has it, is wrong on torch's own."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        variance = (centred * centred).mean(dim=-1, keepdim=True)
        return centred * (variance + self.eps).rsqrt() * self.weight + self.bias


def written_out(model: nn.Module) -> nn.Module:
    """The same parameters in the same order."""
    for name, child in list(model.named_children()):
        plain = PlainNorm(child) if isinstance(child, nn.LayerNorm) else written_out(child)
        setattr(model, name, plain)
    return model


def text_batches() -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(4)
    rows = [torch.randint(0, VOCABULARY, (count, LENGTH), generator=draw) for count in (3, 2)]
    return [(ids, ids[:, 1:]) for ids in rows]


def plain_batches() -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(4)
    return [
        (torch.randn(count, 5, generator=draw), torch.randint(0, 3, (count,), generator=draw))
        for count in (3, 8)
    ]


def mean_piece(batch: tuple[Tensor, Tensor]) -> Piece:
    inputs, labels = batch

    def piece(model: nn.Module) -> Losses:
        losses = cross_entropy(model(inputs), labels, reduction="none").flatten()
        return losses, torch.ones_like(losses)

    return piece


@pytest.mark.parametrize("kind", ["gpt2", "mlp"])
def test_products_are_those_of_curvlinops(kind: str) -> None:
    curvlinops = pytest.importorskip("curvlinops")
    text = kind == "gpt2"
    model = Logits(build("gpt2")) if text else network().float()
    other = written_out(Logits(build("gpt2", "eager"))) if text else model
    batches = text_batches() if text else plain_batches()
    loss = MeanLoss(model, [mean_piece(batch) for batch in batches])
    oracle = curvlinops.HessianLinearOperator(
        other, nn.CrossEntropyLoss(), list(other.parameters()), batches
    )
    for vector in directions(loss):
        assert relative(Hessian(loss).product(vector), oracle @ vector) < 1e-5


def test_graph_of_a_single_batch_is_kept_until_the_weights_move() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    model.double()
    inputs = torch.randn(5, 4, dtype=torch.float64)
    calls = []

    def piece(model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(1)
        return model(inputs).square().sum(dim=1), torch.ones(5, dtype=torch.float64)

    loss = MeanLoss(model, [piece])
    hessian, vector = Hessian(loss), torch.randn(loss.weights.size, dtype=torch.float64)
    first = hessian.product(vector)
    assert torch.equal(hessian.product(vector), first)
    assert len(calls) == 1
    with loss.weights.moved(vector, 0.1):
        elsewhere = hessian.product(vector)
        torch.testing.assert_close(elsewhere, Hessian(loss).product(vector))
        assert not torch.allclose(elsewhere, first)
    torch.testing.assert_close(hessian.product(vector), first)
    assert hessian.method == "exact"
