"""Which layers did it, on losses whose parts are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mergekit_geo as geo
from mergekit_geo.evaluation.statistics import estimate_ratio
from mergekit_geo.records.layers import GroupEntry, LayerMeasurements
from mergekit_geo.views.block import Items
from mergekit_geo.views.layers import layers_section
from mergekit_geo.views.markdown import render
from mergekit_geo.views.view import view_of

COUNT = 60
SCALE = torch.rand(COUNT, generator=torch.Generator().manual_seed(0)) + 1.5


class Cell(nn.Module):
    """A layer of one weight in its MLP."""

    def __init__(self, place: float) -> None:
        super().__init__()
        self.mlp = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.mlp.weight, place)


class Layers(nn.Module):
    """Layers of one weight each, and embeddings."""

    def __init__(self, *places: float, embeddings: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Embedding(1, 1)
        nn.init.constant_(self.embed.weight, embeddings)
        self.layers = nn.ModuleList(Cell(place) for place in places)

    @property
    def wells(self) -> list[Tensor]:
        """(w^2 - 1)^2 of every layer: 0 at -1 and 1, and 1 between them."""
        return [(cell.mlp.weight.square() - 1).square().squeeze() for cell in self.layers]


def additive(model: nn.Module, scale: Tensor) -> Tensor:
    """1 + scale times the sum over layers of (i + 1) times each one's well."""
    assert isinstance(model, Layers)
    return 1 + scale * sum((i + 1) * well for i, well in enumerate(model.wells))


def together(model: nn.Module, scale: Tensor) -> Tensor:
    """1 + scale times the product of all wells: high only where all layers are between."""
    assert isinstance(model, Layers)
    return 1 + scale * torch.stack(model.wells).prod()


def measured(loss: object, first: Layers, second: Layers) -> LayerMeasurements:
    data = geo.FunctionObjective(loss, [SCALE[: COUNT // 2], SCALE[COUNT // 2 :]])  # type: ignore[arg-type]
    found = geo.barrier([first, second], data=data, points=3, by_layer=True).measurements
    assert isinstance(found.by_layer, LayerMeasurements)
    return found.by_layer


def by_depth(found: LayerMeasurements) -> dict[str, GroupEntry]:
    return {group.group: group for group in found.sets[0].groups if group.division == "depth"}


def test_shares_of_an_additive_loss_are_its_parts_both_ways_and_sum_to_one() -> None:
    found = measured(additive, Layers(-1.0, -1.0, -1.0), Layers(1.0, 1.0, 1.0))
    groups = by_depth(found)
    for i in range(3):
        group = groups[f"layer {i}"]
        assert group.share_in is not None
        assert group.share_out is not None
        assert group.share_in.value == pytest.approx((i + 1) / 6, abs=1e-6)
        assert group.rise_out.value == pytest.approx(group.rise_in.value, abs=1e-6)
    shares = [group.share_out for group in groups.values() if group.share_out]
    assert sum(share.number for share in shares) == pytest.approx(1, abs=1e-6)
    rise = found.sets[0].rise
    assert rise.value == pytest.approx(6 * SCALE.mean().item(), rel=0.05)
    assert rise.is_significant


def test_a_layer_that_alone_differs_carries_all_of_it_and_the_others_nothing() -> None:
    found = measured(additive, Layers(1.0, -1.0, 1.0), Layers(1.0, 1.0, 1.0))
    for name, group in by_depth(found).items():
        whole = float(name == "layer 1")
        assert group.share_in is not None
        assert group.share_out is not None
        assert group.share_in.value == group.share_out.value == whole
        if not whole:
            assert group.rise_in.value == group.rise_out.value == 0
    kinds = {group.group: group for group in found.sets[0].groups if group.division == "kind"}
    assert kinds["MLP"].rise_in == by_depth(found)["layer 1"].rise_in
    assert kinds["embeddings"].rise_out.value == 0


def test_a_soup_that_is_worse_tells_which_layer_did_it() -> None:
    """At its own weights, too; a soup that is not worse tells nothing."""
    data = geo.FunctionObjective(additive, [SCALE[: COUNT // 2], SCALE[COUNT // 2 :]])  # type: ignore[arg-type]
    apart = [Layers(-1.0, 1.0), Layers(1.0, 1.0)]
    for weights, height in (([0.5, 0.5], 1.0), ([3, 1], 0.75**2)):
        found = geo.soup(apart, data=data, weights=weights, sharpness="off")
        assert found.measurements.by_layer is not None
        (entry,) = found.measurements.by_layer.sets
        rises = {g.group: g.rise_in.value for g in entry.groups if g.division == "depth"}
        assert rises["layer 0"] == pytest.approx(entry.rise.value)
        assert entry.rise.value == pytest.approx(height * SCALE.mean().item(), rel=0.1)
        assert rises["layer 1"] == 0
        assert "most comes with layer 0 alone (100 % of the rise)" in render(
            [Items(view_of(found.report).headline)]
        )
    close = geo.soup([Layers(0.9, 1.0), Layers(1.1, 1.0)], data=data, sharpness="off")
    assert close.measurements.by_layer is None
    assert "by_layer" not in close.report.to_json()


def test_where_no_time_is_left_a_worse_soup_says_so() -> None:
    data = geo.FunctionObjective(additive, [SCALE[: COUNT // 2], SCALE[COUNT // 2 :]])  # type: ignore[arg-type]
    found = geo.soup(
        [Layers(-1.0), Layers(1.0)], data=data, sharpness="off", compute=geo.Compute(budget=1e-6)
    )
    assert found.measurements.by_layer is None
    (missing,) = [one for one in found.report.not_measured if one.what == "by_layer"]
    assert "it would take about" in missing.why


def test_what_layers_do_together_is_in_no_share_or_in_all() -> None:
    groups = by_depth(measured(together, Layers(-1.0, -1.0), Layers(1.0, 1.0)))
    for i in range(2):
        group = groups[f"layer {i}"]
        assert group.rise_in.value == 0
        assert group.share_out is not None
        assert group.share_out.value == pytest.approx(1, abs=1e-6)


def test_layers_that_cost_go_back_and_those_that_help_stay_at_the_mean() -> None:
    found = measured(additive, Layers(-1.0, 0.6), Layers(1.0, 1.3))
    assert found.proposal is not None
    better = found.sets[0].better
    first = [1.0, 0.0] if better == found.proposal.models[0] else [0.0, 1.0]
    assert found.proposal.groups == [("layer 0", first)]
    assert found.proposal.weights == [0.5, 0.5]
    assert found.proposal.advice.startswith("Layer 0 carries all")
    assert found.proposal.advice.endswith(f"of the rise: give it weight 1 of {better}.")
    assert all(one.value < 0 for one in found.sets[0].proposed)
    losses = dict(found.proposal.steps)
    assert min(losses.values()) < losses[found.proposal.models[0]]


def test_where_no_layer_can_be_a_mean_the_better_model_is_proposed() -> None:
    found = measured(additive, Layers(-1.0, -1.0), Layers(1.0, 1.0))
    assert found.proposal is not None
    assert found.proposal.groups == []
    assert sorted(found.proposal.weights) == [0, 1]
    assert "itself has the lowest loss of all tried. Layer 1 carries 67 %" in found.proposal.advice


def test_a_mean_that_is_best_is_left_as_it_is() -> None:
    found = measured(additive, Layers(0.8, 0.9), Layers(1.2, 1.1))
    assert found.proposal is not None
    assert (found.proposal.weights, found.proposal.groups) == ([0.5, 0.5], [])
    assert "significantly better than the mean" in found.proposal.advice
    assert all(group.share_in is None for group in found.sets[0].groups)
    told = render([layers_section(found, None)])
    assert "too little to be shared out" in told


def test_the_interval_of_a_share_covers_it() -> None:
    """Documents of unlike length, with the part of each drawn beside its whole."""
    draw, covered, rounds = np.random.default_rng(0), 0, 400
    for _ in range(rounds):
        whole = draw.normal(2, 1, size=30)
        part = 0.3 * whole + draw.normal(0, 0.5, size=30)
        found = estimate_ratio(part, whole, draw.uniform(10, 100, size=30), np.arange(30))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.3 <= found.high
    assert 0.92 < covered / rounds < 0.98


def test_no_share_of_what_may_be_nothing() -> None:
    noise = np.random.default_rng(0).normal(0, 1, size=30)
    assert estimate_ratio(noise, noise, np.ones(30), np.arange(30)) is None


def of_two_skills(first: int) -> object:
    """A loss with a well of one layer, and a pull of the other to its own side."""

    def loss(model: nn.Module, scale: Tensor) -> Tensor:
        assert isinstance(model, Layers)
        pulled = model.layers[1 - first].mlp.weight.squeeze() + (1 if first == 0 else -1)  # type: ignore[union-attr]
        return 1 + scale * (model.wells[first] + 0.2 * pulled.square())

    return loss


def test_on_several_sets_each_layer_goes_back_to_the_model_that_helps_both() -> None:
    batches = [SCALE[: COUNT // 2], SCALE[COUNT // 2 :]]
    data = {
        name: geo.FunctionObjective(of_two_skills(i), batches)  # type: ignore[arg-type]
        for i, name in enumerate(("code", "chat"))
    }
    models = [Layers(-1.0, -1.0), Layers(1.0, 1.0)]
    found = geo.barrier(models, data=data, points=3, by_layer=True).measurements.by_layer
    first, second = found.proposal.models
    assert [(entry.set, entry.better) for entry in found.sets] == [
        ("code", first), ("chat", second)
    ]  # fmt: skip
    assert dict(found.proposal.groups) == {"layer 0": [0.0, 1.0], "layer 1": [1.0, 0.0]}
    assert found.proposal.advice == (
        "Layers 0-1 carry all of the rise on code and all of the rise on chat: give layer 1 weight "
        f"1 of {first} and layer 0 weight 1 of {second}."
    )
    for entry, best in zip(found.sets, (first, second), strict=True):
        (difference,) = [one for one in entry.proposed if one.model == best]
        assert difference.value == pytest.approx(0, abs=1e-6)
    told = render([layers_section(found, None)])
    assert "on chat" in told
    soup = geo.soup(models, data=data, sharpness="off")
    rises = soup.measurements.by_layer.sets
    assert [(one.set, one.rise.value) for one in rises] == [
        (entry.set, pytest.approx(entry.rise.value)) for entry in found.sets
    ]
    assert sum("most comes with" in line for line in view_of(soup.report).headline) == 2


def test_a_group_that_helps_at_the_mean_is_found_from_the_model() -> None:
    """Two layers that must agree: either alone at the mean costs, a third one helps."""

    def loss(model: nn.Module, scale: Tensor) -> Tensor:
        assert isinstance(model, Layers)
        x, y, z = (cell.mlp.weight.squeeze() for cell in model.layers)  # type: ignore[union-attr]
        return 1 + scale * ((x - y).square() + (x.square() - 1).square() + 0.1 * z.square())

    found = measured(loss, Layers(-1.0, -1.0, -1.0), Layers(1.0, 1.0, 1.0))
    assert found.proposal is not None
    assert sorted(dict(found.proposal.groups)) == ["embeddings", "layer 0", "layer 1"]
    assert found.proposal.weights == [0.5, 0.5]


def test_a_place_where_the_loss_is_not_a_number_is_not_proposed() -> None:
    def hole(model: nn.Module, scale: Tensor) -> Tensor:
        assert isinstance(model, Layers)
        first = model.layers[0].mlp.weight.squeeze()  # type: ignore[union-attr]
        return torch.where(first.abs() < 0.1, torch.nan, additive(model, scale))

    found = measured(hole, Layers(-1.0, 0.6), Layers(1.0, 1.3))
    assert found.sets[0].rise.value is None
    groups = by_depth(found)
    assert groups["layer 0"].rise_in.value is None
    assert groups["layer 1"].rise_in.value is not None
    assert groups["layer 1"].share_in is None
    assert found.proposal is not None
    assert [name for name, _ in found.proposal.groups] == ["layer 0"]
    assert "not a number" in render([layers_section(found, None)])


def test_a_lower_loss_that_is_not_significant_is_not_proposed() -> None:
    """Layer 0 at the mean costs half of the documents what it saves the others, but for a bit."""

    def loss(model: nn.Module, scale: Tensor) -> Tensor:
        assert isinstance(model, Layers)
        return 2 + model.wells[0] * (scale - scale.mean() + 1e-3)

    found = measured(loss, Layers(-1.0), Layers(1.0))
    assert found.proposal is not None
    assert (found.proposal.weights, found.proposal.groups) == ([0.5, 0.5], [])


def test_what_is_kept_is_not_lost_by_the_proposal() -> None:
    """Code is best with both layers of the first model, and chat with both of the second."""

    def pulled(side: float) -> object:
        def loss(model: nn.Module, scale: Tensor) -> Tensor:
            assert isinstance(model, Layers)
            places = [cell.mlp.weight.squeeze() for cell in model.layers]  # type: ignore[union-attr]
            return 1 + scale * sum((place - side).square() for place in places)

        return loss

    batches = [SCALE[: COUNT // 2], SCALE[COUNT // 2 :]]
    data = {
        name: geo.FunctionObjective(pulled(side), batches)  # type: ignore[arg-type]
        for name, side in (("code", -1.0), ("chat", 1.0))
    }
    models = [Layers(-1.0, -1.0), Layers(1.0, 1.0)]
    kept = geo.AimConfig(keep=["code"])
    found = geo.barrier(models, data=data, points=3, by_layer=True, aiming=kept)
    proposal = found.measurements.by_layer.proposal
    assert (proposal.weights, proposal.groups) == ([1.0, 0.0], [])
    assert any(loss is None for _, loss in json.loads(found.report.to_json())["result"]["by_layer"][
        "proposal"]["steps"])  # fmt: skip
