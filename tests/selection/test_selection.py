"""Greedy, line search and learned soups, against truths of the field and naive references."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.memory import of_module
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.native import kernel_for
from mergekit_geo.modules.blend import InPlace
from mergekit_geo.selection.chain import join
from mergekit_geo.selection.greedy import Members, greedy
from mergekit_geo.selection.learned import Descent, Simplex, inner_products, learn, soup_of
from mergekit_geo.selection.line import line_search, lowest, sharpness_near_best

LOSSES = st.lists(st.floats(0.1, 9), min_size=1, max_size=6)


def naive_greedy(losses: list[float], points: np.ndarray) -> set[int]:
    """Algorithm 1 of Wortsman 2022, written from the paper; strict as the published code."""
    order = np.argsort(losses, kind="stable")
    soup = [int(order[0])]
    best = losses[order[0]]
    for i in order[1:]:
        trial = float(np.square(points[[*soup, i]].mean(axis=0)).sum())
        if trial < best:
            soup.append(int(i))
            best = trial
    return set(soup)


@given(st.integers(0, 10_000), st.integers(1, 7))
def test_greedy_is_the_published_algorithm(seed: int, count: int) -> None:
    points = np.random.default_rng(seed).normal(size=(count, 3))
    losses = [float(np.square(point).sum()) for point in points]

    def loss_of(members: Members) -> float:
        return float(np.square(points[list(members)].mean(axis=0)).sum())

    found = greedy(losses, loss_of)
    assert set(found.members) == naive_greedy(losses, points)
    assert sum(found.weights(count)) == pytest.approx(1)
    assert found.steps[0].loss == min(losses)
    with_replacement = greedy(losses, loss_of, with_replacement=True)
    for soup in (found, with_replacement):
        assert min(step.loss for step in soup.steps if step.kept) <= min(losses)


@given(LOSSES)
def test_greedy_is_never_worse_than_the_best(losses: list[float]) -> None:
    found = greedy(losses, lambda members: 10.0)
    assert found.members == (int(np.argmin(losses)),)


def test_a_soup_that_is_only_as_good_is_not_taken() -> None:
    assert greedy([1.0, 1.0], lambda members: 1.0).members == (0,)


@pytest.mark.parametrize("place", [0.0, 0.13, 0.5, 0.77, 1.0])
def test_line_search_finds_the_bottom(place: float) -> None:
    calls = []

    def loss_of(t: float) -> float:
        calls.append(t)
        return abs(t - place) ** 1.5 + 3

    found = line_search(loss_of)
    assert lowest(found) == pytest.approx(place, abs=0.02)
    assert len(calls) <= 16
    assert calls == list(found)  # each place once


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_greedy_soup_is_joining_on_the_straight_way(seed: int, count: int) -> None:
    """At 1 / m of the way to the m-th member, the point is the mean of all members."""
    points = np.random.default_rng(seed).normal(size=(count, 3))
    losses = [float(np.square(point).sum()) for point in points]
    members = {0: 1}

    def reach(place: tuple[float, ...], index: int) -> tuple[tuple[float, ...], float]:
        share = 1 / (members[0] + 1)
        there = (1 - share) * np.array(place) + share * points[index]
        loss = float(np.square(there).sum())
        members[0] += loss < best[-1]
        best.append(min(best[-1], loss))
        return tuple(there), loss

    best = [min(losses)]
    tried = join(losses, lambda index: tuple(points[index]), reach)
    soup = greedy(losses, lambda chosen: float(np.square(points[list(chosen)].mean(0)).sum()))
    assert [step.kept for step in tried] == [step.kept for step in soup.steps]
    np.testing.assert_allclose(
        [step.point for step in tried if step.kept][-1], points[list(soup.members)].mean(0)
    )


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.5])
def test_flattest_is_the_flattest_of_those_that_are_good_enough(tolerance: float) -> None:
    losses = {t / 20: 2 + (t / 20 - 0.35) ** 2 for t in range(21)}
    asked: list[float] = []

    def sharpness_of(t: float) -> float:
        asked.append(t)
        return 1 - t

    found = sharpness_near_best(losses, sharpness_of, tolerance=tolerance, most=5)
    good = [t for t, loss in losses.items() if loss <= (1 + tolerance) * min(losses.values())]
    assert lowest(found) == max(good)
    assert 0.35 in asked
    assert len(asked) == len(set(asked)) <= 5
    assert set(asked) <= set(good)


class Two(nn.Module):
    """Two layers, so that groups differ."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).tanh())


def anchors(count: int) -> tuple[Checkpoint, ...]:
    return tuple(of_module(Two(seed), f"m{seed}") for seed in range(count))


def test_inner_products_are_those_of_whole_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mergekit_geo.selection.learned.CHUNK", 5)
    models = anchors(4)
    blend = Blend(models, Linear((0.25,) * 4))
    gradient = torch.randn(4, 3)
    found = inner_products(blend, "first.weight", gradient, kernel_for("cpu"))
    whole = np.array([float((gradient * m.state["first.weight"]).sum()) for m in models])
    np.testing.assert_allclose(found - found[0], whole - whole[0], rtol=1e-5)


@pytest.mark.parametrize("granularity", ["model", "layer", "tensor"])
def test_learned_soup_follows_the_gradient_of_the_coefficients(granularity: str) -> None:
    """Against autograd through an explicit sum of all models in memory."""
    models = anchors(3)
    blend = Blend(models, Linear((1 / 3,) * 3))
    module = Two(9)
    live = InPlace(module, {name: name for name in module.state_dict()})
    x, y = torch.randn(32, 3), torch.randn(32, 1)

    def losses_of(step: int) -> list[torch.Tensor]:
        return [nn.functional.mse_loss(module(x), y)]

    found = learn(live, blend, losses_of, Descent(granularity, steps=15))
    groups = sorted(found.weights)
    free = torch.zeros(len(groups), 3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([free], lr=0.1)
    naive = []
    for _ in range(15):
        shares = torch.softmax(free, dim=1)
        weights = {group: shares[i] for i, group in enumerate(groups)}
        state = {
            name: sum(
                w * m.state[name].double()
                for w, m in zip(weights[group(name, granularity)], models, strict=True)
            ).float()
            for name in module.state_dict()
        }
        loss = nn.functional.mse_loss(torch.func.functional_call(Two(0), state, (x,)), y)
        naive.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(found.losses, naive, rtol=2e-4)
    assert found.losses[-1] < found.losses[0]
    for i, name in enumerate(groups):
        np.testing.assert_allclose(
            found.weights[name], torch.softmax(free, dim=1)[i].detach().numpy(), atol=2e-3
        )


@pytest.mark.parametrize("granularity", ["model", "tensor"])
def test_learned_soup_starts_where_it_is_told(granularity: str) -> None:
    blend, module = Blend(anchors(3), Linear((1 / 3,) * 3)), Two(9)
    live = InPlace(module, {name: name for name in module.state_dict()})
    x, seen = torch.randn(8, 3), []

    def look(step: int, weights: dict[str, np.ndarray]) -> None:  # type: ignore[type-arg]
        seen.append((step, weights))

    found = learn(
        live,
        blend,
        lambda step: [module(x).square().mean()],
        Descent(granularity, Simplex((0.0, 1.0, 0.0)), steps=5, learning_rate=0.0, every=2),
        look=look,
    )
    assert [step for step, _ in seen] == [2, 4, 5]
    for weights in (found.weights, *(weights for _, weights in seen)):
        for shares in weights.values():
            np.testing.assert_allclose(shares, [0.01 / 3, 0.99 + 0.01 / 3, 0.01 / 3])


def group(name: str, granularity: str) -> str:
    parts = {"model": "", "layer": name.rpartition(".")[0], "tensor": name}
    return parts[granularity]


def test_soup_of_groups_gives_each_tensor_its_own_coefficients() -> None:
    blend = Blend(anchors(2), Linear((0.5, 0.5)))
    weights = {"first": np.array([1.0, 0.0]), "second": np.array([0.25, 0.75])}
    soup = soup_of(blend, weights, "layer")
    assert soup.rule_for("first.weight").weights == (1, 0)
    assert soup.rule_for("second.bias").weights == (0.25, 0.75)
    assert soup.rule.weights == (0.625, 0.375)


def test_learned_soup_of_folders(family: Path) -> None:
    from mergekit_geo.checkpoints.reference import open_checkpoint
    from mergekit_geo.config.measures import Compute
    from mergekit_geo.modules.open import open_live

    blend = Blend(tuple(open_checkpoint(family / name) for name in "abc"), Linear((1 / 3,) * 3))
    live = open_live(blend, Compute(device="cpu"))
    assert isinstance(live, InPlace)
    ids = torch.randint(0, 1000, (2, 32), generator=torch.Generator().manual_seed(0))
    found = learn(
        live, blend, lambda step: [live.model(input_ids=ids, labels=ids).loss], Descent(steps=3)
    )
    (weights,) = found.weights.values()
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).all()
    assert all(parameter.grad is None for parameter in live.model.parameters())
