"""The table of merge methods: one line per method.

Recipes take their keys and checks from it, `geo-merge merge` and `geo.merge` their options, and
the documentation its table. A new method is a `Method`, in a file of its own, and its line here.
"""

from __future__ import annotations

import math
from dataclasses import replace

from mergekit_geo.errors import ArgumentError
from mergekit_geo.files.sound_json import brief
from mergekit_geo.geometry.by_row import ByRow
from mergekit_geo.geometry.linear import Linear, normalized
from mergekit_geo.geometry.median import TOLERANCE, GeometricMedian
from mergekit_geo.geometry.model_stock import model_stock
from mergekit_geo.geometry.multislerp import MultiSlerp, nuslerp
from mergekit_geo.geometry.pointwise import ArceeFusion, NearSwap, Ram
from mergekit_geo.geometry.rule import ModelWeights, Rule
from mergekit_geo.geometry.sphere import UNIT, Karcher, Slerp
from mergekit_geo.geometry.task_vectors import FromBase, task_arithmetic
from mergekit_geo.limits import Interval
from mergekit_geo.merging import by_fisher, by_regression, sparsified, spectral
from mergekit_geo.merging.by_entropy import ADAMERGING
from mergekit_geo.merging.method import BaseUse, Method
from mergekit_geo.merging.parameter import (
    NORMALIZE,
    SCALE_OF_SUM,
    STATED_WEIGHT,
    WEIGHT,
    Given,
    Parameter,
    SearchRange,
)
from mergekit_geo.printable import nearest_of

PRECISION = Parameter(
    "tolerance", "Last step of the iteration, as a share of the mean distance.", 1e-9, TOLERANCE
)

POSITION = Parameter(
    "t",
    "Position between two models, on the arc (slerp) or the line (wise-ft); of nearswap, the "
    "longest step of an element.",
    0.5, UNIT, stated=True, searched=SearchRange(0, 1),
)  # fmt: skip
STEPS = SearchRange(1e-5, 1e-2, log=True)
"""Longest steps of nearswap that are searched."""

FLATTEN = Parameter(
    "nuslerp_flatten", "Take a tensor as one vector, not each of its rows.", default=True
)
COLUMNS = Parameter(
    "nuslerp_row_wise",
    "Without nuslerp_flatten, take vectors along the first dimension, not along the last.",
    default=False,
)
FILTERS = Parameter(
    "filter_wise", "Take each row of a tensor as a vector, along the last dimension.", default=False
)
SIZES = Interval(0, math.inf, open_high=True)
LEAST_CHANGE = Parameter(
    "epsilon", "Changes of an element up to this size count as none.", 1e-5, SIZES,
    spelling="least_change",
)  # fmt: skip
GAIN = Parameter(
    "r", "What one model alone changes is multiplied by 1 + r min(rho, alpha).", 0.1, SIZES
)
MOST_RHO = replace(by_regression.ALPHA, default=0.2)


def _linear(weights: ModelWeights, normalize: bool, **_: object) -> Rule:
    return Linear(normalized(weights) if normalize else weights)


def _slerp(t: float, **_: object) -> Rule:
    return Slerp(t, "linear")


def _wise_ft(t: float, **_: object) -> Rule:
    return Linear((1 - t, t), name="wise-ft")


def _karcher(weights: ModelWeights, **_: object) -> Rule:
    return Karcher(normalized(weights), "linear")


def _geometric_median(weights: ModelWeights, tolerance: float, **_: object) -> Rule:
    return GeometricMedian(normalized(weights), tolerance)


def _nuslerp(
    weights: ModelWeights,
    has_base: bool,
    nuslerp_flatten: bool,
    nuslerp_row_wise: bool,
    **_: object,
) -> Rule:
    rule = FromBase(nuslerp(weights)) if has_base else nuslerp(weights)
    return rule if nuslerp_flatten else ByRow(rule, columns=nuslerp_row_wise)


def _multislerp(
    weights: ModelWeights, normalize_weights: bool, has_base: bool, **_: object
) -> Rule:
    rule = MultiSlerp(normalized(weights) if normalize_weights else weights)
    return FromBase(rule) if has_base else rule


def _task_arithmetic(weights: ModelWeights, lambda_: float, normalize: bool, **_: object) -> Rule:
    return task_arithmetic(weights, lambda_, normalize)


def _model_stock(count: int, filter_wise: bool, **_: object) -> Rule:
    return ByRow(model_stock(count)) if filter_wise else model_stock(count)


def _nearswap(t: float, **_: object) -> Rule:
    return NearSwap(t)


def _arcee_fusion(**_: object) -> Rule:
    return ArceeFusion()


def _ram(count: int, least_change: float, **_: object) -> Rule:
    return Ram(count, least_change)


def _ramplus_tl(count: int, r: float, alpha: float, least_change: float, **_: object) -> Rule:
    return Ram(count, least_change, r, alpha, name="ramplus_tl")


def _passthrough(scale: ModelWeights, **_: object) -> Rule:
    return Linear(scale, branch="passthrough", name="passthrough")


def _equal(count: int, **_: object) -> Rule:
    return Linear(normalized((1.0,) * count))


ALL: tuple[Method, ...] = (
    Method(
        "linear", "sum w_i a_i / sum w_i", "Wortsman 2022", _linear, (WEIGHT, NORMALIZE),
    ),
    Method(
        "slerp", "arc from the first model to the second, at t", "Shoemake 1985", _slerp,
        (POSITION,), BaseUse.END, most=1, accepted=("embed_slerp",),
    ),
    Method(
        "wise-ft", "(1 - t) b + t a: from the base (t = 0) to its fine-tune (t = 1)",
        "Wortsman 2022b", _wise_ft, (POSITION,), BaseUse.END, most=1,
    ),
    Method(
        "karcher", "Karcher mean of the directions times the weighted mean of the norms",
        "Karcher 1977", _karcher, (WEIGHT,), least=2,
        accepted=("max_iter", "tol"), ignores_base=True,
    ),
    Method(
        "geometric_median", "the point x with the least sum w_i |a_i - x|", "Weiszfeld 1937",
        _geometric_median, (WEIGHT, PRECISION), least=2,
    ),
    Method(
        "nuslerp",
        "arc at w_1 / (w_0 + w_1), of whole tensors or of each row; of the v_i with a base",
        "mergekit", _nuslerp, (STATED_WEIGHT, FLATTEN, COLUMNS), BaseUse.OPTIONAL, least=2, most=2,
    ),
    Method(
        "multislerp",
        "normalised weighted mean of the directions times the weighted mean of the norms; of the "
        "v_i with a base",
        "mergekit", _multislerp,
        (WEIGHT, replace(NORMALIZE, name="normalize_weights")), BaseUse.OPTIONAL, least=2,
        accepted=("eps",),
    ),
    Method(
        "model_stock",
        "b + t (mean a_i - b), t = k cos / (1 + (k - 1) cos), cos the mean over pairs of the v_i, "
        "of whole tensors or of each row",
        "Jang 2024", _model_stock, (FILTERS,), BaseUse.REQUIRED, least=2,
    ),
    Method(
        "task_arithmetic", "b + lambda sum w_i v_i", "Ilharco 2023", _task_arithmetic,
        (STATED_WEIGHT, SCALE_OF_SUM, replace(NORMALIZE, default=False)), BaseUse.REQUIRED,
        accepted=("rescale",),
    ),
    ADAMERGING,
    sparsified.TIES,
    sparsified.DARE_LINEAR,
    sparsified.DARE_TIES,
    sparsified.DELLA_LINEAR,
    sparsified.DELLA,
    sparsified.BREADCRUMBS,
    sparsified.BREADCRUMBS_TIES,
    sparsified.SCE,
    spectral.TSV,
    spectral.ISO_C,
    spectral.ISO_CTS,
    spectral.KNOTS,
    spectral.WUDI,
    by_fisher.FISHER,
    by_fisher.UNCERTAINTY,
    by_regression.REGMEAN,
    by_regression.REGMEAN_PLUS,
    Method(
        "nearswap", "b + v min(1, t / |v|)", "alchemonaut 2024", _nearswap,
        (replace(POSITION, default=1e-4, searched=STEPS),), BaseUse.REQUIRED, most=1,
    ),
    Method(
        "arcee_fusion",
        "b + m v, m where |v| KL(softmax of the row of a | of b) reaches its median + 1.5 "
        "interquartile ranges",
        "Arcee 2025", _arcee_fusion, (), BaseUse.REQUIRED, most=1,
    ),
    Method(
        "ram", "b + v_i where |v_i| > epsilon for one i, their mean where for several",
        "Yuan 2026", _ram, (LEAST_CHANGE,), BaseUse.REQUIRED,
    ),
    Method(
        "ramplus_tl",
        "ram, v_i of one i times 1 + r min(rho_i, alpha), rho_i its elements shared / its own",
        "Yuan 2026", _ramplus_tl, (GAIN, MOST_RHO, LEAST_CHANGE), BaseUse.REQUIRED,
    ),
    Method(
        "passthrough", "scale a", "", _passthrough,
        (Parameter("scale", "Factor of the model.", 1.0, each=True),), most=1,
    ),
    Method(
        "greedy", "mean of the models that lower the loss, best first", "Wortsman 2022", _equal,
        chosen_by="soup --method greedy",
    ),
    Method(
        "learned", "sum w_i a_i, the w_i by gradient", "Wortsman 2022", _equal,
        chosen_by="soup --method learned",
    ),
    Method(
        "along", "a point of a path between models", "Garipov 2018", _equal, least=2,
        chosen_by="soup --along linear",
    ),
)  # fmt: skip

METHODS: dict[str, Method] = {method.name: method for method in ALL}
"""All methods, by the name that recipes and commands give."""

ELSEWHERE = {
    "moe": "builds a mixture of experts, which is another architecture, not a point between models"
}
"""Methods of mergekit's that are refused, and why."""


def method_named(name: str) -> Method:
    """The method of this name.

    Raises:
        ArgumentError: No such method, or one of mergekit's that is not built.

    Example:
        >>> method_named("slerp").base.value
        'two models'
    """
    if name in METHODS:
        return METHODS[name]
    known = ", ".join(METHODS)
    if why := ELSEWHERE.get(name):
        raise ArgumentError(f"{name} {why}", remedy=f"methods: {known}")
    hint = nearest_of(name, METHODS)
    raise ArgumentError(f"no method {brief(name)}", remedy=f"{hint}methods: {known}")


def rule_of(
    method: str | Method, count: int, base: int | None = None, *, seed: int = 0, **parameters: Given
) -> Rule:
    """The rule of a merge, from what a call says.

    Args:
        method: Its name in the table, or a method that is not in it.
        count: Number of models, the base among them.
        base: Which of them is the base.
        seed: Of random masks.
        parameters: By their keywords; None is not given. One value is for all models, a sequence
            has one per model, in their order, the base left out.

    Returns:
        A rule over the models in the order of `anchors_of`.

    Raises:
        ArgumentError: With what the method takes.

    Example:
        >>> rule_of("task_arithmetic", 3, base=0, weights=[0.5, 0.25], lambda_=2.0).weights
        (-0.5, 1.0, 0.5)
    """
    found = method if isinstance(method, Method) else method_named(method)
    if found.by_loss:
        remedy = f"geo-merge {found.chosen_by}, or `merge_method: {found.name}` in a recipe"
        raise ArgumentError(f"{found.name} chooses the point by loss", remedy=remedy)
    _check_base(found, count, base)
    _check_known(found, parameters)
    has_base = base is not None or found.base is BaseUse.END
    members = count - has_base
    found.check_count(members)
    said = {each.name: parameters.get(each.keyword) for each in found.parameters}
    values = {each.name: each.of_call(said[each.name], members) for each in found.parameters}
    return found.make(values, members, has_base, seed)


def anchors_of(count: int, base: int | None) -> tuple[int, ...]:
    """The models in the order of a rule: the base first, where there is one.

    Example:
        >>> anchors_of(3, base=2)
        (2, 0, 1)
    """
    first = () if base is None else (base,)
    return (*first, *(i for i in range(count) if i != base))


def _check_base(method: Method, count: int, base: int | None) -> None:
    if base is None and method.base is BaseUse.REQUIRED:
        raise ArgumentError(
            f"{method.name} needs a base, which the task vectors start at",
            remedy="--base names the model that the others were tuned from",
        )
    if base is not None and method.base is BaseUse.NONE:
        raise ArgumentError(f"{method.name} takes no base", remedy="leave --base out")
    if base is not None and not 0 <= base < count:
        raise ArgumentError(f"the base must be one of {count} models, found number {base}")


def _check_known(method: Method, given: dict[str, Given]) -> None:
    known = [each.keyword for each in method.parameters]
    for key, value in given.items():
        if value is not None and key not in known:
            hint, takes = nearest_of(key, known), ", ".join(known) or "none"
            raise ArgumentError(
                f"{method.name} takes no {brief(key)}",
                remedy=f"{hint}parameters of {method.name}: {takes}",
            )
