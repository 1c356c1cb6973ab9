"""Where a search starts, held against the models themselves."""

import pytest
import torch
from torch import Tensor

from mergekit_geo.merging.methods import METHODS
from mergekit_geo.recipes.run import run
from mergekit_geo.searches.default_space import default_space
from mergekit_geo.searches.space import Space
from mergekit_geo.searches.trial import Values
from mergekit_geo.searches.warm_starts import models_of, warm_starts, with_weights

LINEAR = {"linear", "wise-ft", "task_arithmetic", "dare_linear", "breadcrumbs"}
"""Methods that have every weighted sum of models, at their densest."""

BY_ARC = {"slerp", "nuslerp", "karcher", "multislerp"}
TIES = {"ties", "dare_ties", "breadcrumbs_ties"}


def state(seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        f"model.layers.{i}.{part}.weight": torch.randn(4, 3, generator=draw)
        for i in range(2)
        for part in ("mlp.up_proj", "self_attn.q_proj")
    }


MODELS = {"a": state(1), "b": state(2), "d": state(0)}


def merged(space: Space, values: Values) -> Tensor:
    found = run(space.resolved(values), models=MODELS, data=None, sharpness="off").state
    assert found is not None
    return torch.cat([found[name].flatten() for name in sorted(found)])


def flat(name: str) -> Tensor:
    return torch.cat([MODELS[name][key].flatten() for key in sorted(MODELS[name])])


WITH_NUMBERS = [
    one.name for one in METHODS.values()
    if not (one.by_loss or one.needs) and any(each.searched for each in one.parameters)
]  # fmt: skip


@pytest.mark.parametrize("name", WITH_NUMBERS)
def test_starts_are_the_models_that_they_are_called_after(name: str) -> None:
    models = ["a"] if name == "nearswap" else ["a", "b"]
    space = Space.of(default_space(models, "d", [name]))
    starts = warm_starts(space)
    titles = " and ".join(title for title, _ in starts)
    assert all(space.contains(values) for _, values in starts)
    assert ("uniform soup" in titles) == (name in LINEAR)
    assert ("a alone" in titles) == (name in LINEAR | TIES | BY_ARC | {"geometric_median"})
    for title, values in starts:
        if "alone" in title:
            torch.testing.assert_close(merged(space, values), flat(title.split()[0]))
        if "uniform" in title:
            torch.testing.assert_close(merged(space, values), (flat("a") + flat("b")) / 2)


def test_coefficients_of_a_learned_soup_are_taken_by_the_method_that_can() -> None:
    space = Space.of(default_space(["a", "b"], "d", ["ties", "dare_linear", "linear"]))
    values = with_weights(space, {"a": 0.8, "b": 0.2})
    assert values is not None
    assert values["merge_method"] == "dare_linear"
    torch.testing.assert_close(merged(space, values), 0.8 * flat("a") + 0.2 * flat("b"))
    ties = Space.of(default_space(["a", "b"], "d", ["ties"]))
    assert with_weights(ties, {"a": 0.8, "b": 0.2}) is None
    near = with_weights(ties, {"a": 0.8, "b": 0.2}, exact=False)
    assert near == {**ties.defaults, "weight of a": 0.8, "weight of b": 0.2}


def test_ranges_that_leave_a_start_out() -> None:
    low = {"weight": {"min": 0.1, "max": 1}}
    models = [{"model": "a", "parameters": low}, {"model": "b", "parameters": low}]
    space = Space.of({"merge_method": "linear", "models": models})
    assert [title for title, _ in warm_starts(space)] == ["default recipe and uniform soup"]
    fixed = {"merge_method": "linear", "models": [models[0], {"model": "b"}],
             "parameters": {"weight": 2}}  # fmt: skip
    assert with_weights(Space.of(fixed), {"a": 0.5, "b": 0.5}) is None
    assert with_weights(Space.of(fixed), {"a": 1 / 3, "b": 2 / 3}) == {"weight of a": 1.0}


def test_normalised_weights_are_scaled_into_their_ranges() -> None:
    above = {"weight": {"min": 2, "max": 4}}
    models = [{"model": one, "parameters": above} for one in ("a", "b")]
    space = Space.of({"merge_method": "linear", "models": models})
    assert with_weights(space, {"a": 0.5, "b": 0.5}) == {"weight of a": 4.0, "weight of b": 4.0}


def test_weights_by_kind_are_all_set() -> None:
    kinds = {"weight": [{"filter": "mlp", "value": {"min": 0, "max": 1}}, {"min": 0, "max": 1}]}
    models = [{"model": one, "parameters": kinds} for one in ("a", "b")]
    space = Space.of({"merge_method": "linear", "models": models})
    assert models_of(space) == ["a", "b"]
    values = dict(warm_starts(space))["a alone"]
    assert values == {
        "weight of a (mlp)": 1.0, "weight of a (others)": 1.0,
        "weight of b (mlp)": 0.0, "weight of b (others)": 0.0,
    }  # fmt: skip


def test_equal_values_draw_equal_masks_and_a_larger_density_keeps_what_a_smaller_one_keeps() -> (
    None
):
    space = Space.of(default_space(["a"], "d", ["dare_linear"]))
    few, same, many = (
        merged(space, {"weight of a": 1.0, "density": density}) for density in (0.4, 0.4, 0.6)
    )
    assert torch.equal(few, same)
    kept, more = few != flat("d"), many != flat("d")
    assert 0 < kept.sum() < more.sum()
    assert not (kept & ~more).any()
