"""Methods that keep some elements of the task vectors: TIES, DARE, DELLA, Breadcrumbs and SCE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mergekit_geo.geometry.masked import Masked, Sce
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.geometry.sparsifiers import (
    DENSITY,
    OUTLIERS,
    Breadcrumbs,
    Dropout,
    MagPrune,
    Sparsifier,
    TopK,
    VarianceTopK,
)
from mergekit_geo.merging.method import BaseUse, Method
from mergekit_geo.merging.parameter import (
    NORMALIZE,
    SCALE_OF_SUM,
    STATED_WEIGHT,
    Parameter,
    SearchRange,
)

KEPT = Parameter(
    "density",
    "Fraction of the elements kept.",
    1.0,
    DENSITY,
    each=True,
    searched=SearchRange(0.1, 1),
)
RESCALE = Parameter(
    "rescale",
    "Rescale the elements kept, so that the sum of magnitudes stays the same.",
    default=True,
)
OUTSIDE = Parameter("gamma", "Fraction of the largest elements dropped.", 0.01, OUTLIERS, each=True)
SPAN = Parameter(
    "epsilon",
    "Probabilities to keep an element run from density - epsilon to density + epsilon.",
    0.15,
    each=True,
)
SELECTED = Parameter(
    "select_topk",
    "Fraction of the elements kept, those in which the models differ most.",
    1.0,
    DENSITY,
    searched=SearchRange(0.1, 1),
)
SCALES = SearchRange(0.5, 1.5)
"""Scaling factors that are searched where weights are normalised; else the weights scale."""

AROUND = SearchRange(0.2, 0.8)
"""Densities that are searched where chances run from a little below them to a little above."""

SUM = "b + lambda sum w_i m_i v_i"


def sparsified(
    name: str,
    sparsifier: Callable[..., Sparsifier],
    *own: Parameter,
    formula: str,
    source: str,
    elect: bool = False,
    normalize: bool = False,
    rescale: bool = False,
) -> Method:
    """A method that keeps elements of each task vector, and sums what is kept.

    Args:
        name: Of the method.
        sparsifier: Says which elements are kept; called with the density and `own`.
        own: Parameters beside the density that every model has.
        formula: As `Method` has it.
        source: Author and year.
        elect: Whether only elements with the sign of the weighted sum count (TIES).
        normalize: Whether the sum is divided by the weights of what counts, by default.
        rescale: Whether what is kept is rescaled, by default.

    Example:
        >>> method = sparsified("ties", TopK, formula="", source="", elect=True)
        >>> values = {"weight": (1.0,), "density": (0.5,), "lambda": 1, "normalize": 0,
        ...           "rescale": 0}
        >>> method.make(values, 1, has_base=True).kept
        (TopK(density=0.5),)
    """

    def rule(
        weights: tuple[float, ...],
        lambda_: float,
        normalize: bool,
        rescale: bool,
        seed: int,
        count: int,
        has_base: bool,
        **each: tuple[float, ...],
    ) -> Rule:
        rows = zip(*each.values(), strict=True)
        kept = tuple(sparsifier(**dict(zip(each, row, strict=True))) for row in rows)
        return Masked(name, weights, kept, rescale, elect, normalize, lambda_, seed)

    switches = (replace(NORMALIZE, default=normalize), replace(RESCALE, default=rescale))
    kept = replace(KEPT, searched=AROUND) if SPAN in own else KEPT
    scale = replace(SCALE_OF_SUM, searched=SCALES if normalize else None)
    parameters = (STATED_WEIGHT, kept, *own, scale, *switches)
    return Method(name, formula, source, rule, parameters, BaseUse.REQUIRED)


def _sce(count: int, select_topk: float, **_: object) -> Rule:
    return Sce(count, VarianceTopK(select_topk))


TIES = sparsified(
    "ties", TopK, elect=True, normalize=True, source="Yadav 2023",
    formula=f"{SUM} / sum w_i over the i with the sign of the sum; m_i keeps the largest",
)  # fmt: skip
DARE_LINEAR = sparsified(
    "dare_linear", Dropout, rescale=True, source="Yu 2024",
    formula=f"{SUM}, rescaled; m_i keeps each element with chance density",
)  # fmt: skip
DARE_TIES = sparsified(
    "dare_ties", Dropout, elect=True, rescale=True, source="Yu 2024",
    formula="dare_linear over the i with the sign of the sum",
)  # fmt: skip
DELLA_LINEAR = sparsified(
    "della_linear", MagPrune, SPAN, rescale=True, source="Deep 2024",
    formula=f"{SUM}, rescaled; m_i keeps with a chance that grows with the rank in the row",
)  # fmt: skip
DELLA = sparsified(
    "della", MagPrune, SPAN, elect=True, normalize=True, rescale=True, source="Deep 2024",
    formula="della_linear / sum w_i over the i with the sign of the sum",
)  # fmt: skip
BREADCRUMBS = sparsified(
    "breadcrumbs", Breadcrumbs, OUTSIDE, source="Davari 2024",
    formula=f"{SUM}; m_i keeps the largest but for outliers",
)  # fmt: skip
BREADCRUMBS_TIES = sparsified(
    "breadcrumbs_ties", Breadcrumbs, OUTSIDE, elect=True, source="Davari 2024",
    formula="breadcrumbs over the i with the sign of the sum",
)  # fmt: skip
SCE = Method(
    "sce",
    "b + sum w_i m v_i / sum w_i over the i with the sign of the sum; w_i is the mean square of "
    "m v_i, m keeps where the models differ most",
    "Wan 2024",
    _sce,
    (SELECTED,),
    BaseUse.REQUIRED,
    least=2,
)
