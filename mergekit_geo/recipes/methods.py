"""Merge methods that a recipe can name: what each takes, and the rule it is.

A method is one function from weights and parameters to a rule, and one line in the table.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mergekit_geo.errors import RecipeError
from mergekit_geo.files.sound_json import brief
from mergekit_geo.geometry.linear import Linear, normalized
from mergekit_geo.geometry.masked import Masked, Sce
from mergekit_geo.geometry.model_stock import model_stock
from mergekit_geo.geometry.multislerp import MultiSlerp, nuslerp
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.geometry.sparsifiers import (
    Breadcrumbs,
    Dropout,
    MagPrune,
    Sparsifier,
    TopK,
    VarianceTopK,
)
from mergekit_geo.geometry.sphere import Karcher, Slerp
from mergekit_geo.geometry.task_vectors import FromBase, task_arithmetic
from mergekit_geo.recipes.values import LONGEST, Number

Weights = tuple[float, ...]

NO, MAY, MUST, ONE = "no", "may", "must", "one of the two"
"""Whether a method takes a base: never, if given, always, or as one of its two models."""


@dataclass(frozen=True)
class Said:
    """What a recipe says for one tensor.

    Attributes:
        weights: Of each member.
        each: The other parameters that each member has.
        shared: Parameters of the method.
        base: Whether there is a base.
        seed: Of random masks.
    """

    weights: Weights
    each: Mapping[str, Weights]
    shared: Mapping[str, Number]
    base: bool
    seed: int = 0


Make = Callable[[Said], Rule]


@dataclass(frozen=True)
class Method:
    """What a method takes.

    Attributes:
        make: The rule for a tensor.
        base: Whether it takes a base model: `no`, `may`, `must`, `one of the two`.
        weights: Whether each model has a weight: `no`, `may` (equal ones by default), `must`.
        parameters: Of the method, and their defaults; None is required.
        each: The others that each model has, and their defaults.
        least: Fewest models beside the base.
        most: Most of them.
        by_loss: Whether the point is chosen by loss, and the rule is only where that starts.
    """

    make: Make
    base: str = NO
    weights: str = NO
    parameters: Mapping[str, Number | None] = field(default_factory=dict)
    each: Mapping[str, float] = field(default_factory=dict)
    least: int = 1
    most: int | None = None
    by_loss: bool = False


def _linear(said: Said) -> Rule:
    return Linear(normalized(said.weights) if said.shared["normalize"] else said.weights)


def _slerp(said: Said) -> Rule:
    return Slerp(float(said.shared["t"]), "linear")


def _karcher(said: Said) -> Rule:
    return Karcher(normalized(said.weights), "linear")


def _nuslerp(said: Said) -> Rule:
    return FromBase(nuslerp(said.weights)) if said.base else nuslerp(said.weights)


def _multislerp(said: Said) -> Rule:
    whole = said.shared["normalize_weights"]
    rule = MultiSlerp(normalized(said.weights) if whole else said.weights)
    return FromBase(rule) if said.base else rule


def _model_stock(said: Said) -> Rule:
    return model_stock(len(said.weights))


def _task_arithmetic(said: Said) -> Rule:
    scale, normalize = float(said.shared["lambda"]), bool(said.shared["normalize"])
    return task_arithmetic(said.weights, scale, normalize)


def _passthrough(said: Said) -> Rule:
    return Linear(said.each["scale"], branch="passthrough", name="passthrough")


def _equal(said: Said) -> Rule:
    return Linear(normalized(said.weights))


def _masked(name: str, keep: Callable[..., Sparsifier], *, elect: bool = False) -> Make:
    """Methods that keep elements of the task vectors: what they keep, and whether signs vote."""

    def make(said: Said) -> Rule:
        kept = tuple(keep(*values) for values in zip(*said.each.values(), strict=True))
        normalize, rescale = bool(said.shared["normalize"]), bool(said.shared["rescale"])
        scale = float(said.shared["lambda"])
        return Masked(name, said.weights, kept, rescale, elect, normalize, scale, said.seed)

    return make


def _sce(said: Said) -> Rule:
    return Sce(len(said.weights), VarianceTopK(float(said.shared["select_topk"])))


def _masking(
    make: Make, *, normalize: bool = False, rescale: bool = False, **each: float
) -> Method:
    """One that keeps elements, with mergekit's defaults."""
    shared = {"lambda": 1.0, "normalize": normalize, "rescale": rescale}
    return Method(make, MUST, MUST, shared, {"density": 1.0, **each})


METHODS: dict[str, Method] = {
    "linear": Method(_linear, NO, MAY, {"normalize": True}),
    "slerp": Method(_slerp, ONE, NO, {"t": None}, least=1, most=1),
    "karcher": Method(_karcher, NO, MAY, least=2),
    "nuslerp": Method(_nuslerp, MAY, MUST, least=2, most=2),
    "multislerp": Method(_multislerp, MAY, MAY, {"normalize_weights": True}, least=2),
    "model_stock": Method(_model_stock, MUST, NO, least=2),
    "task_arithmetic": Method(_task_arithmetic, MUST, MUST, {"lambda": 1.0, "normalize": False}),
    "ties": _masking(_masked("ties", TopK, elect=True), normalize=True),
    "dare_linear": _masking(_masked("dare_linear", Dropout), rescale=True),
    "dare_ties": _masking(_masked("dare_ties", Dropout, elect=True), rescale=True),
    "della_linear": _masking(_masked("della_linear", MagPrune), rescale=True, epsilon=0.15),
    "della": _masking(
        _masked("della", MagPrune, elect=True), normalize=True, rescale=True, epsilon=0.15
    ),
    "breadcrumbs": _masking(_masked("breadcrumbs", Breadcrumbs), gamma=0.01),
    "breadcrumbs_ties": _masking(_masked("breadcrumbs_ties", Breadcrumbs, elect=True), gamma=0.01),
    "sce": Method(_sce, MUST, NO, {"select_topk": 1.0}, least=2),
    "passthrough": Method(_passthrough, NO, NO, each={"scale": 1.0}, most=1),
    "greedy": Method(_equal, by_loss=True),
    "learned": Method(_equal, by_loss=True),
    "along": Method(_equal, least=2, by_loss=True),
}
"""All methods, by their name in `merge_method`."""

PARAMETERS = {"weight"} | {
    name for method in METHODS.values() for name in (*method.parameters, *method.each)
}
"""Names of all parameters that some method takes."""

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

ELSEWHERE = {
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
    near = difflib.get_close_matches(name[:LONGEST], METHODS, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise RecipeError(
        f"no method {brief(name)}", where="merge_method", remedy=f"{hint}methods: {known}"
    )
