"""The space that is searched where no recipe says which."""

from collections.abc import Sequence

import pytest

from mergekit_geo.errors import ArgumentError
from mergekit_geo.merging.method import BaseUse
from mergekit_geo.merging.methods import METHODS
from mergekit_geo.recipes.inputs import inputs_of
from mergekit_geo.recipes.reading import read_document
from mergekit_geo.searches.default_space import default_space
from mergekit_geo.searches.space import Space


def asked(recipe: dict[str, object]) -> dict[str, dict[str, tuple[str, ...]]]:
    return {one.name: dict(one.when) for one in Space.of(recipe).dimensions}


def test_methods_share_the_numbers_that_they_all_have() -> None:
    found = asked(default_space(["a", "b"], "d", ["ties", "dare_ties", "slerp"]))
    both = {"merge_method": ("ties", "dare_ties")}
    assert found == {
        "merge_method": {}, "weight of a": both, "weight of b": both, "density": both,
        "ties: lambda": {"merge_method": ("ties",)}, "t": {"merge_method": ("slerp",)},
    }  # fmt: skip


def test_one_method_is_a_recipe_without_choices() -> None:
    recipe = default_space(["d", "a", "b", "a"], "d", ["ties"])
    assert recipe["merge_method"] == "ties"
    assert asked(recipe) == {"weight of a": {}, "weight of b": {}, "density": {}, "lambda": {}}


@pytest.mark.parametrize(
    ("models", "base", "labels"),
    [
        (["a", "b"], "d", ("task_arithmetic", "ties", "dare_ties")),
        (["a", "b"], None, ("linear", "slerp")),
        (["a", "b", "c"], None, ("linear", "karcher")),
    ],
)
def test_the_usual_methods(models: list[str], base: str | None, labels: tuple[str, ...]) -> None:
    assert Space.of(default_space(models, base)).methods == labels


@pytest.mark.parametrize("name", [one.name for one in METHODS.values() if not one.by_loss])
def test_every_method_with_numbers_has_a_space_in_bounds(name: str) -> None:
    method = METHODS[name]
    models = ["a", "b"][: method.most and method.most + (method.base is BaseUse.END)]
    if method.needs:
        with pytest.raises(ArgumentError, match=f"{name} needs data of each model, and is not"):
            default_space(models, "d", [name])
        return
    if not any(each.searched for each in method.parameters):
        with pytest.raises(ArgumentError, match=f"{name} has no number to search"):
            default_space(models, "d", [name])
        return
    space = Space.of(default_space(models, "d", [name]))
    for end in (0, 1):
        values = {one.name: (one.low, one.high)[end] for one in space.dimensions}
        values |= {one.name: 0.5 for one in space.dimensions if one.parameter == "weight"}
        found = inputs_of(read_document(space.resolved(values)).recipe)
        numbers = {
            **{key: tuple(map(float, own)) for key, own in found.each.items()},  # type: ignore[arg-type]
            **found.shared,
        }
        found.method.make(numbers, len(found.members), found.base is not None)  # type: ignore[arg-type]
    assert found.name == name


@pytest.mark.parametrize(
    ("models", "base", "methods", "said"),
    [
        (["a", "b"], None, ["ties"], "ties needs a base, .*--base names the model"),
        (["a", "b", "c"], None, ["slerp"], "slerp takes 1 model beside the base, found 2"),
        (["a", "b"], None, ["linear", "greedy"], "greedy chooses by loss .*soup --method greedy"),
        (["a", "b"], None, ["liner"], "no method 'liner' .*did you mean linear"),
        (["a"], None, ["linear"], "one model is merged with nothing .*or one and --base"),
        (["a"], "d", ["karcher"], "karcher needs 2 or more models, found 1"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    models: Sequence[str], base: str | None, methods: Sequence[str], said: str
) -> None:
    with pytest.raises(ArgumentError, match=said):
        default_space(models, base, methods)
