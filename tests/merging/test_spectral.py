"""Methods on whole task matrices against references in float64, written from the papers."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.linalg import svd

from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.methods import rule_of
from mergekit_geo.merging.stream import stream
from mergekit_geo.merging.tensor_record import TensorRecord

LAYER, EMBEDDINGS, NORM = "layers.0.up.weight", "embed_tokens.weight", "norm.weight"
METHODS = ("tsv", "iso_c", "iso_cts", "knots", "wudi")
SHAPES = [(24, 40), (40, 24)]
State = dict[str, Tensor]


def states(count: int, shape: tuple[int, int] = (24, 40), seed: int = 0) -> list[State]:
    """A base and models near it, in float64."""
    draw = torch.Generator().manual_seed(seed)
    sizes = {LAYER: shape, EMBEDDINGS: (30, 8), NORM: (8,)}
    base = {name: torch.randn(size, generator=draw).double() for name, size in sizes.items()}
    return [base, *(
        {name: one + 0.01 * torch.randn(one.shape, generator=draw).double()
         for name, one in base.items()}
        for _ in range(count)
    )]  # fmt: skip


def run(models: Sequence[State], rule: Rule) -> tuple[State, dict[str, TensorRecord]]:
    blend = Blend(tuple(of_state(one, f"m{i}") for i, one in enumerate(models)), rule)
    sink = MemorySink(blend)
    return sink.state, stream(blend, sink)


def tasks_of(models: Sequence[State], weights: Sequence[float] | None = None) -> list[Tensor]:
    base, *others = (one[LAYER] for one in models)
    used = weights or [1.0] * len(others)
    return [weight * (one - base) for one, weight in zip(others, used, strict=True)]


def orthogonal(matrix: Tensor) -> Tensor:
    u, _, vh = svd(matrix, full_matrices=False)
    return u @ vh


def naive_tsv(tasks: Sequence[Tensor]) -> Tensor:
    found = [svd(task, full_matrices=False) for task in tasks]
    count = min(tasks[0].shape) // len(tasks)
    u = torch.cat([one.U[:, :count] for one in found], dim=1)
    s = torch.cat([one.S[:count] for one in found])
    vh = torch.cat([one.Vh[:count] for one in found])
    return orthogonal(u) @ torch.diag(s) @ orthogonal(vh)


def naive_iso_c(tasks: Sequence[Tensor]) -> Tensor:
    u, s, vh = svd(torch.stack(list(tasks)).sum(dim=0), full_matrices=False)
    return s.mean() * u @ vh


def naive_iso_cts(tasks: Sequence[Tensor], common: float = 0.8) -> Tensor:
    smaller, total = min(tasks[0].shape), torch.stack(list(tasks)).sum(dim=0)
    apart = round((smaller - int(smaller * common)) / len(tasks)) * len(tasks)
    shared, own = smaller - apart, apart // len(tasks)
    top = svd(total, full_matrices=False)
    common_u = top.U[:, :shared]
    found = [svd(task - common_u @ common_u.T @ task, full_matrices=False) for task in tasks]
    u = torch.cat([*(one.U[:, :own] for one in found), common_u], dim=1)
    s = torch.cat([*(one.S[:own] for one in found), top.S[:shared]])
    vh = torch.cat([*(one.Vh[:own] for one in found), top.Vh[:shared]])
    return s.mean() * orthogonal(u) @ orthogonal(vh)


def naive_knots(tasks: Sequence[Tensor], density: float = 1.0) -> Tensor:
    """TIES with a mean, on the parts S V_iᵀ."""
    u, s, vh = svd(torch.cat(list(tasks), dim=1), full_matrices=False)
    parts = torch.stack([s[:, None] * part for part in vh.chunk(len(tasks), dim=1)])
    flat = parts.flatten(1)
    count = round(density * flat.shape[1])
    least = flat.abs().topk(count, dim=1).values[:, -1:]
    kept = torch.where(flat.abs() >= least, flat, 0.0)
    agree = torch.where(kept.sum(dim=0).sign() == kept.sign(), kept, 0.0)
    merged = agree.sum(dim=0) / (agree != 0).sum(dim=0).clamp(min=1)
    return u @ merged.view(parts[0].shape)


def naive_wudi(tasks: Sequence[Tensor]) -> Tensor:
    """Adam on the loss itself, by autograd."""
    point = torch.nn.Parameter(torch.stack(list(tasks)).sum(dim=0))
    adam = torch.optim.Adam([point], lr=1e-5)
    for _ in range(300):
        adam.zero_grad()
        wudi_loss(point, tasks).backward()
        adam.step()
    return point.detach()


def wudi_loss(point: Tensor, tasks: Sequence[Tensor]) -> Tensor:
    terms = [((point - task) @ task.T).square().sum() / task.square().sum() for task in tasks]
    return torch.stack(terms).sum()


NAIVE: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "tsv": naive_tsv, "iso_c": naive_iso_c, "iso_cts": naive_iso_cts, "knots": naive_knots,
    "wudi": naive_wudi,
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_as_the_papers_have_it(method: str, shape: tuple[int, int]) -> None:
    models = states(3, shape)
    merged, records = run(models, rule_of(method, 4, 0, lambda_=0.7))
    expected = models[0][LAYER] + 0.7 * NAIVE[method](tasks_of(models))
    torch.testing.assert_close(merged[LAYER], expected, rtol=0, atol=1e-9)
    error = records[LAYER].error
    assert error is not None
    assert error < (1 if method == "wudi" else 1e-8)


@pytest.mark.parametrize("method", ["tsv", "iso_c", "iso_cts"])
def test_weights_are_factors_of_task_matrices(method: str) -> None:
    models, weights = states(2), [0.5, 1.5]
    merged, _ = run(models, rule_of(method, 3, 0, weights=weights))
    expected = models[0][LAYER] + NAIVE[method](tasks_of(models, weights))
    torch.testing.assert_close(merged[LAYER], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", ["tsv", "iso_c", "iso_cts", "wudi"])
def test_embeddings_and_vectors_are_averaged(method: str) -> None:
    models = states(3)
    merged, records = run(models, rule_of(method, 4, 0, lambda_=0.5))
    for name in (EMBEDDINGS, NORM):
        mean = torch.stack([one[name] for one in models[1:]]).mean(dim=0)
        torch.testing.assert_close(merged[name], (models[0][name] + mean) / 2)
        assert records[name].branch == "linear"


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_models_changes_nothing(method: str) -> None:
    models = states(3)
    found, _ = run(models, rule_of(method, 4, 0))
    turned, _ = run([models[0], *models[:0:-1]], rule_of(method, 4, 0))
    torch.testing.assert_close(found[LAYER], turned[LAYER], rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_singular_vectors_of_one_model_are_that_model(shape: tuple[int, int]) -> None:
    models = states(1, shape)
    merged, _ = run(models, rule_of("tsv", 2, 0))
    torch.testing.assert_close(merged[LAYER], models[1][LAYER], rtol=0, atol=1e-12)


def test_singular_vectors_of_equal_models_are_its_first() -> None:
    """Where vectors of two models are one, each has its half of it."""
    base, model = states(1)
    merged, _ = run([base, model, model], rule_of("tsv", 3, 0))
    u, s, vh = svd(model[LAYER] - base[LAYER], full_matrices=False)
    expected = base[LAYER] + (u[:, :12] * s[:12]) @ vh[:12]
    torch.testing.assert_close(merged[LAYER], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", ["iso_c", "iso_cts"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_isotropic_singular_values_are_all_equal(method: str, shape: tuple[int, int]) -> None:
    models = states(2, shape)
    merged, _ = run(models, rule_of(method, 3, 0))
    values = svd(merged[LAYER] - models[0][LAYER]).S
    torch.testing.assert_close(values, values.mean().expand_as(values), rtol=1e-8, atol=0)


def test_directions_of_nothing_stay_out_of_isotropic_ones() -> None:
    """Of matrices of low rank: of its directions all are equal, and their sum is as it was."""
    base, *_ = states(0)
    draw = torch.Generator().manual_seed(1)
    low = [torch.randn(24, 2, generator=draw) @ torch.randn(2, 40, generator=draw) for _ in "ab"]
    merged, _ = run(
        [base, *({**base, LAYER: base[LAYER] + one} for one in low)], rule_of("iso_c", 3, 0)
    )
    values, whole = svd(merged[LAYER] - base[LAYER]).S, svd(low[0] + low[1]).S
    torch.testing.assert_close(values[:4], whole.sum().double().expand(4) / 4, rtol=1e-5, atol=0)
    assert values[4] < 1e-9


@pytest.mark.parametrize(
    ("method", "own"), [("knots", {}), ("knots", {"dare": True}), ("wudi", {"least_squares": True})]
)
def test_equal_models_give_that_model(method: str, own: dict[str, bool]) -> None:
    base, model = states(1)
    merged, _ = run([base, model, model], rule_of(method, 3, 0, **own))
    torch.testing.assert_close(merged[LAYER], model[LAYER], rtol=0, atol=1e-12)


def test_steps_from_the_sum_of_equal_models_come_nearer_to_that_model() -> None:
    base, model = states(1)
    merged, _ = run([base, model, model], rule_of("wudi", 3, 0))
    off, start = (merged[LAYER] - model[LAYER]).norm(), (model[LAYER] - base[LAYER]).norm()
    assert off < 0.9 * start


def test_the_least_squares_solution_is_the_minimum() -> None:
    models = states(3)
    merged, records = run(models, rule_of("wudi", 4, 0, least_squares=True))
    tasks, found = tasks_of(models), merged[LAYER] - models[0][LAYER]
    point = found.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(wudi_loss(point, tasks), point)
    (there,) = torch.autograd.grad(wudi_loss(start := sum(tasks).requires_grad_(), tasks), start)  # type: ignore[union-attr]
    assert gradient.norm() < 1e-9 * there.norm()
    assert records[LAYER].branch == "wudi: least squares"
    steps, _ = run(models, rule_of("wudi", 4, 0))
    adam = wudi_loss(steps[LAYER] - models[0][LAYER], tasks)
    assert wudi_loss(found, tasks) < adam < wudi_loss(sum(tasks), tasks)  # type: ignore[arg-type]


def test_a_task_that_changed_nothing_takes_no_part_in_wudi() -> None:
    base, model, other = states(2)
    for own in ({"least_squares": True}, {}):
        alone, _ = run([base, base, model, other], rule_of("wudi", 4, 0, **own))
        found, _ = run([base, model, other], rule_of("wudi", 3, 0, **own))
        torch.testing.assert_close(alone[LAYER], found[LAYER], rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_models_that_are_the_base_give_the_base(method: str) -> None:
    base, *_ = states(0)
    for own in [{}, {"least_squares": True}] if method == "wudi" else [{}]:
        merged, _ = run([base, base, base], rule_of(method, 3, 0, **own))
        assert torch.equal(merged[LAYER], base[LAYER])
    models = states(2)
    merged, _ = run(models, rule_of(method, 3, 0, lambda_=0))
    assert torch.equal(merged[LAYER], models[0][LAYER])


def test_knots_keeps_the_largest_of_aligned_parts() -> None:
    models = states(3)
    merged, _ = run(models, rule_of("knots", 4, 0, density=0.25))
    expected = models[0][LAYER] + naive_knots(tasks_of(models), 0.25)
    torch.testing.assert_close(merged[LAYER], expected, rtol=0, atol=1e-9)


def test_knots_by_dare_depends_on_the_seed() -> None:
    models = states(2)
    found = [
        run(models, rule_of("knots", 3, 0, density=0.5, dare=True, seed=seed))[0][LAYER]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_what_knots_does_not_align_is_merged_by_ties() -> None:
    models = states(2)
    merged, _ = run(models, rule_of("knots", 3, 0, density=0.5))
    ties, _ = run(models, rule_of("ties", 3, 0, density=0.5))
    for name in (EMBEDDINGS, NORM):
        assert torch.equal(merged[name], ties[name])


@pytest.mark.parametrize("method", ["iso_cts", "knots", "wudi"])
def test_layers_that_are_stored_by_column_are_merged_as_others(method: str) -> None:
    """Whose rows are outputs decides: GPT-2 stores them as columns, GPT-BigCode does not."""
    name, models = "h.0.attn.c_proj.weight", states(2, (24, 24))
    gpt2 = {"n_layer": 1, "n_embd": 24, "n_head": 2, "vocab_size": 4, "model_type": "gpt2"}
    kinds = {"GPT2Model": gpt2, "GPTBigCodeModel": gpt2 | {"model_type": "gpt_bigcode"}}
    for kind, config in kinds.items():
        is_turned = kind == "GPT2Model"
        anchors = tuple(
            replace(
                of_state({name: (one[LAYER].T if is_turned else one[LAYER]).contiguous()}, "m"),
                config={"architectures": [kind], **config},
            )
            for one in models
        )
        blend = Blend(anchors, rule_of(method, 3, 0))
        sink = MemorySink(blend)
        stream(blend, sink)
        found = sink.state[name].T if is_turned else sink.state[name]
        expected = models[0][LAYER] + NAIVE[method](tasks_of(models))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_halves_are_merged_in_float32_and_rounded_once(method: str) -> None:
    models = [{name: one.bfloat16() for name, one in state.items()} for state in states(2)]
    merged, _ = run(models, rule_of(method, 3, 0))
    base, *others = (one[LAYER].double() for one in models)
    expected = base + NAIVE[method]([one - base for one in others])
    assert (merged[LAYER].double() - expected).abs().max() <= 2**-8 * expected.abs().max()
    close = merged[LAYER] == expected.bfloat16()
    assert close.double().mean() > 0.97
