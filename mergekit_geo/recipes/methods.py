"""Merge methods that a recipe can name: what each takes, and the rule it is.

A method is one function from weights and parameters to a rule, and one line in the table.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mergekit_geo.errors import RecipeError
from mergekit_geo.geometry.linear import Linear, normalized
from mergekit_geo.geometry.model_stock import model_stock
from mergekit_geo.geometry.multislerp import MultiSlerp, nuslerp
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.geometry.sphere import Karcher, Slerp
from mergekit_geo.geometry.task_vectors import FromBase, task_arithmetic
from mergekit_geo.recipes.values import Number

Weights = tuple[float, ...]
Parameters = Mapping[str, Number]
Make = Callable[[Weights, Parameters, bool], Rule]

NO, MAY, MUST, ONE = "no", "may", "must", "one of the two"
"""Whether a method takes a base: never, if given, always, or as one of its two models."""


@dataclass(frozen=True)
class Method:
    """What a method takes.

    Attributes:
        make: From weights, parameters and whether there is a base to the rule for a tensor.
        base: Whether it takes a base model: `no`, `may`, `must`, `one of the two`.
        weights: Whether each model has a weight: `no`, `may` (equal ones by default), `must`.
        parameters: The others and their defaults; None is required.
        least: Fewest models beside the base.
        most: Most of them.
        by_loss: Whether the point is chosen by loss, and the rule is only where that starts.
    """

    make: Make
    base: str = NO
    weights: str = NO
    parameters: Mapping[str, Number | None] = field(default_factory=dict)
    least: int = 1
    most: int | None = None
    by_loss: bool = False


def _linear(weights: Weights, parameters: Parameters, base: bool) -> Rule:
    return Linear(normalized(weights) if parameters["normalize"] else weights)


def _slerp(weights: Weights, parameters: Parameters, base: bool) -> Rule:
    return Slerp(float(parameters["t"]), "linear")


def _karcher(weights: Weights, parameters: Parameters, base: bool) -> Rule:
    return Karcher(normalized(weights), "linear")


def _nuslerp(weights: Weights, parameters: Parameters, base: bool) -> Rule:
    return FromBase(nuslerp(weights)) if base else nuslerp(weights)


def _multislerp(weights: Weights, parameters: Parameters, base: bool) -> Rule:
    rule = MultiSlerp(normalized(weights) if parameters["normalize_weights"] else weights)
    return FromBase(rule) if base else rule


def _model_stock(weights: Weights, parameters: Parameters, base: bool) -> Rule:
    return model_stock(len(weights))


def _task_arithmetic(weights: Weights, parameters: Parameters, base: bool) -> Rule:
    scale, normalize = float(parameters["lambda"]), bool(parameters["normalize"])
    return task_arithmetic(weights, scale, normalize)


def _passthrough(weights: Weights, parameters: Parameters, base: bool) -> Rule:
    return Linear((float(parameters["scale"]),), branch="passthrough", name="passthrough")


def _equal(weights: Weights, parameters: Parameters, base: bool) -> Rule:
    return Linear(normalized(weights))


METHODS: dict[str, Method] = {
    "linear": Method(_linear, NO, MAY, {"normalize": True}),
    "slerp": Method(_slerp, ONE, NO, {"t": None}, least=1, most=1),
    "karcher": Method(_karcher, NO, MAY, least=2),
    "nuslerp": Method(_nuslerp, MAY, MUST, least=2, most=2),
    "multislerp": Method(_multislerp, MAY, MAY, {"normalize_weights": True}, least=2),
    "model_stock": Method(_model_stock, MUST, NO, least=2),
    "task_arithmetic": Method(_task_arithmetic, MUST, MUST, {"lambda": 1.0, "normalize": False}),
    "passthrough": Method(_passthrough, NO, NO, {"scale": 1.0}, most=1),
    "greedy": Method(_equal, by_loss=True),
    "learned": Method(_equal, by_loss=True),
    "along": Method(_equal, least=2, by_loss=True),
}
"""By the name in `merge_method`."""

ACCEPTED = {
    "karcher": ("max_iter", "tol"),
    "nuslerp": ("nuslerp_flatten", "nuslerp_row_wise"),
    "model_stock": ("filter_wise",),
    "multislerp": ("eps",),
    "task_arithmetic": ("rescale",),
}
"""Parameters of mergekit's that are read, and what they ask for is what is done anyway."""

AS_DONE = {
    "nuslerp_flatten": True, "nuslerp_row_wise": False, "filter_wise": False, "rescale": False,
}  # fmt: skip
"""The one value of such a parameter that is done; where none is named, any."""

MASKING = (
    "ties", "dare_linear", "dare_ties", "della", "della_linear", "breadcrumbs",
    "breadcrumbs_ties", "sce",
)  # fmt: skip
ELSEWHERE = {
    **dict.fromkeys(
        MASKING,
        "masks elements of the task vectors, which is not built yet; what works on task vectors "
        "now: task_arithmetic, model_stock, multislerp and nuslerp with a base_model",
    ),
    "moe": "builds a mixture of experts, which is another architecture, not a point between models",
    "arcee_fusion": "is not built; a weighting by layers works as linear with gradients",
    "nearswap": "is not built; slerp with gradients and filters comes nearest",
}
"""Methods of mergekit's that are refused, and why."""


def method_named(name: str) -> Method:
    """The method of a recipe.

    Raises:
        RecipeError: No such method, or one of mergekit's that is not built.

    Example:
        >>> method_named("slerp").base
        'one of the two'
    """
    if name in METHODS:
        return METHODS[name]
    known = ", ".join(METHODS)
    if why := ELSEWHERE.get(name):
        raise RecipeError(f"{name} {why}", where="merge_method", remedy=f"methods: {known}")
    near = difflib.get_close_matches(name, METHODS, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise RecipeError(f"no method {name!r}", where="merge_method", remedy=f"{hint}methods: {known}")
