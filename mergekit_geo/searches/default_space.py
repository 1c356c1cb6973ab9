"""The space that is searched where no recipe says which: methods, and the numbers that each has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mergekit_geo.errors import ArgumentError
from mergekit_geo.merging.method import BaseUse, Method
from mergekit_geo.merging.methods import method_named
from mergekit_geo.merging.parameter import SearchRange

WITH_BASE = ("task_arithmetic", "ties", "dare_ties")
"""Methods that are tried where a base is named, and none else is asked for."""

PAIR = 2


def default_space(
    models: Sequence[str], base: str | None = None, methods: Sequence[str] = ()
) -> dict[str, Any]:
    """A recipe with ranges for models, as a search without a recipe takes it.

    Every model has a weight, every method its own numbers, one for all models; methods that take
    the same number share it.

    Args:
        models: As a recipe names them; the base may be among them.
        base: The model that they were tuned from.
        methods: To choose from; by default task arithmetic, TIES and DARE with a base, and the
            mean and the arc (of more models: the Karcher mean) without one.

    Raises:
        ArgumentError: No such method, or one that these models or no base cannot have.

    Example:
        >>> recipe = default_space(["a", "b"], "d", ["dare_ties"])
        >>> recipe["parameters"], recipe["models"][0]["parameters"]
        ({'density': {'min': 0.1, 'max': 1}}, {'weight': {'min': 0, 'max': 1}})
    """
    names = [name for name in dict.fromkeys(models) if name != base]
    if len(names) + (base is not None) < PAIR:
        raise ArgumentError(
            "one model is merged with nothing", remedy="name two or more, or one and --base"
        )
    asked = list(dict.fromkeys(methods)) or _usual(len(names), base)
    chosen = [method_named(name) for name in asked]
    for method in chosen:
        _check(method, len(names), base)
    shared, own = _numbers(chosen)
    branches = [_branch(method, names, base, own.get(method.name, {})) for method in chosen]
    weight = _weight(chosen)
    if not (weight or shared or own or len(chosen) > 1):
        raise ArgumentError(
            f"{chosen[0].name} has no number to search",
            remedy="name further methods, such as --methods ties,dare_ties",
        )
    recipe = {
        "merge_method": {"choices": branches},
        "base_model": base,
        "models": [_model(name, weight) for name in names],
        "parameters": shared,
    }
    recipe |= branches[0] if len(branches) == 1 else {}
    return {key: said for key, said in recipe.items() if said not in (None, {})}


def _usual(count: int, base: str | None) -> list[str]:
    return (
        list(WITH_BASE) if base is not None else ["linear", "slerp" if count == PAIR else "karcher"]
    )


def _check(method: Method, count: int, base: str | None) -> None:
    """Refuse a method that these models cannot be merged by, or that has nothing to search."""
    if method.by_loss:
        raise ArgumentError(
            f"{method.name} chooses by loss itself, and is not searched",
            remedy=f"geo-merge {method.chosen_by} does it",
        )
    if method.needs:
        raise ArgumentError(
            f"{method.name} needs data of each model, and is not searched",
            remedy=f"geo-merge merge --method {method.name} does it",
        )
    if method.base is BaseUse.REQUIRED and base is None:
        raise ArgumentError(
            f"{method.name} needs a base, which the task vectors start at",
            remedy="--base names the model that the others were tuned from",
        )
    method.check_count(count - (method.base is BaseUse.END))


def _numbers(methods: Sequence[Method]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Ranges that all methods that take a number have in common, and those of each method alone."""
    found: dict[str, dict[str, SearchRange | None]] = {}
    for method in methods:
        for each in method.parameters:
            if each.name != "weight":
                found.setdefault(each.name, {})[method.name] = each.searched
    shared: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {}
    for key, asked in found.items():
        ranges = {name: _range(asks) for name, asks in asked.items() if asks is not None}
        if ranges and len(set(asked.values())) == 1:
            shared[key] = next(iter(ranges.values()))
            continue
        for name, asks in ranges.items():
            own.setdefault(name, {})[key] = asks
    return shared, own


def _branch(
    method: Method, names: Sequence[str], base: str | None, own: dict[str, Any]
) -> dict[str, Any]:
    found: dict[str, Any] = {"merge_method": method.name}
    if method.base is BaseUse.END:
        found["base_model"] = names[0]
    elif method.base is BaseUse.NONE and base is not None:
        found["base_model"] = None
    return {**found, "parameters": own} if own else found


def _weight(methods: Iterable[Method]) -> SearchRange | None:
    """What is searched of weights."""
    own = (each.searched for one in methods for each in one.parameters if each.name == "weight")
    return next((asks for asks in own if asks is not None), None)


def _model(name: str, weight: SearchRange | None) -> dict[str, Any]:
    return {"model": name, **({"parameters": {"weight": _range(weight)}} if weight else {})}


def _range(asks: SearchRange) -> dict[str, Any]:
    return {"min": asks.low, "max": asks.high, **({"log": True} if asks.log else {})}
