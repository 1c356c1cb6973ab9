"""Gram matrices behind merged layers, against a pass that is written out layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from mergekit_geo.activations.examples import Examples
from mergekit_geo.activations.layers import linear_layers
from mergekit_geo.activations.prefix import PrefixPass, StagedGrams
from mergekit_geo.activations.spool import Spool
from mergekit_geo.activations.stages import run_until, stages_of
from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.config.measures import Compute
from mergekit_geo.merging.regmean import GramSettings, RegMean, Regression
from mergekit_geo.merging.regression import regression_mean
from mergekit_geo.progress import Silent

HOW, SHARES, WIDE = Regression(), [0.25, 0.75], 4


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm = nn.Linear(WIDE, 6), nn.LayerNorm(WIDE)
        self.down = nn.Linear(6, WIDE, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.down(self.up(self.norm(x)).relu())
        return found


class Net(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.start = nn.Linear(3, WIDE)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(WIDE, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.start(x)
        for block in self.blocks:
            x = block(x)
        found: Tensor = self.head(x)
        return found


def gram(rows: Tensor) -> Tensor:
    flat = rows.reshape(-1, rows.shape[-1]).double()
    return flat.T @ flat / len(flat)


def solved(layers: list[nn.Linear], grams: list[Tensor]) -> Tensor:
    weights = [layer.weight.detach() for layer in layers]
    return regression_mean(weights, grams.__getitem__, SHARES, HOW).weight_vw.float()


@torch.no_grad()
def naive(models: list[Net], data: list[Tensor]) -> list[dict[str, Tensor]]:
    """Every block on what the merged ones before it make, then merged: RegMean++, written out."""
    found: list[dict[str, Tensor]] = [{}, {}]
    merged = deepcopy(models[0])
    for name, own in merged.named_parameters():
        parts = [s * m.get_parameter(name) for s, m in zip(SHARES, models, strict=True)]
        own.copy_(torch.stack(parts).sum(0))
    # the first layer runs before the first block, and is merged with it
    states = [model.start(x) for model, x in zip(models, data, strict=True)]
    for one, x in zip(found, data, strict=True):
        one["start.weight"] = gram(x)
    for number in range(2):
        for one, model, x in zip(found, models, states, strict=True):
            block = model.blocks[number]
            normed = block.norm(x)
            one[f"blocks.{number}.up.weight"] = gram(normed)
            one[f"blocks.{number}.down.weight"] = gram(block.up(normed).relu())
        for layer in ("up", "down"):
            layers = [getattr(model.blocks[number], layer) for model in models]
            grams = [one[f"blocks.{number}.{layer}.weight"] for one in found]
            getattr(merged.blocks[number], layer).weight.copy_(solved(layers, grams))
        if not number:
            first = [one["start.weight"] for one in found]
            merged.start.weight.copy_(solved([model.start for model in models], first))
            states = [merged.start(x) for x in data]
        states = [merged.blocks[number](x) for x in states]
    for one, x in zip(found, states, strict=True):
        one["head.weight"] = gram(x)
    return found


@pytest.fixture
def spools(request: pytest.FixtureRequest) -> Iterator[list[Spool]]:
    made = [Spool(f"{request.node.name[:30]} {i}".replace("/", " ")) for i in range(2 * 3)]
    yield made
    for one in made:
        one.clear()


def passed(models: list[Net], data: list[Tensor], spools: list[Spool]) -> list[StagedGrams]:
    examples = [
        Examples(None, tuple(lambda m, y=y: m(y) for y in x.split(2)), (1, 1), lambda m, x=x: m(x),
                 0, 2, 2)
        for x in data
    ]  # fmt: skip
    rule = RegMean("regmean_plus", tuple(SHARES), HOW, GramSettings(8))
    return PrefixPass(
        open_checkpoints(models), rule, examples, lambda model, stage: spools[3 * model + stage],
        Compute(device="cpu"), None, Silent(), lambda: float("inf"), print,
    ).run()  # fmt: skip


def test_grams_are_of_what_the_merged_layers_before_make(spools: list[Spool]) -> None:
    models = [Net(1).eval(), Net(2).eval()]
    data = [torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    expected = naive(models, data)
    for found, wanted in zip(passed(models, data, spools), expected, strict=True):
        assert found.widths.keys() == wanted.keys()
        for weight, one in wanted.items():
            torch.testing.assert_close(found.of(weight).double(), one, rtol=1e-4, atol=1e-6)


def test_a_second_pass_takes_up_what_is_there(
    spools: list[Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [Net(1).eval(), Net(2).eval()]
    data = [torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    first = passed(models, data, spools)
    for spool in spools[2::3]:
        spool.clear()  # as if it was killed before the last stage
    again = passed(models, data, spools)
    assert [one.digests() for one in first] == [one.digests() for one in again]
    monkeypatch.setattr("mergekit_geo.activations.prefix.Gathering", None)
    assert [one.digests() for one in first] == [
        one.digests() for one in passed(models, data, spools)
    ]


def test_stages_run_in_order_and_no_further() -> None:
    model = Net(0).eval()
    layers = linear_layers(model, open_checkpoints([model])[0])
    stages = stages_of(model, layers, lambda m: m(torch.ones(1, 3)))
    assert [stage.block for stage in stages] == ["blocks.0", "blocks.1", ""]
    assert [len(stage.layers) for stage in stages] == [3, 2, 1]
    seen: list[str] = []
    for path, module in model.named_modules():
        module.register_forward_pre_hook(lambda *_, path=path: seen.append(path))
    run_until(model, stages[0], lambda m: m(torch.ones(1, 3)))
    assert "blocks.0.down" in seen
    assert "blocks.1" not in seen
