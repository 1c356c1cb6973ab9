"""Why models part or fit: what their geometry tells, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import median

from mergekit_geo.records.model import Geometry, LayerGeometry
from mergekit_geo.records.report import Report
from mergekit_geo.views.amount import listed
from mergekit_geo.views.chart import short_name
from mergekit_geo.views.geometry import base_of, task_cosine

ALIKE, APART, MOST = 0.9, 0.5, 3
"""Median cosine of models that are alike, cosine of a layer that is not, and most named."""
UNLIKE = 0.2
"""Cosine below which nothing is left of a common initialisation."""
ORTHOGONAL, AGREE, CONFLICT = 0.1, 0.5, -0.2
"""Cosine of task vectors that are nearly orthogonal, that agree, and that conflict in a layer."""

HEAD = re.compile(r"classifi|^score|head|(^|\.)cls|qa_outputs|pooler|projection$|decoder$|^output")
"""Layers after the encoder, which a task brings with it."""


def parted_by(found: Geometry | None, names: Sequence[str] = ()) -> str:
    """The layers that lie apart in two models that are alike elsewhere; empty without any.

    So do heads that were initialised by themselves.

    Args:
        found: Where the models lie.
        names: Of the models, where there are more than two.
    """
    apart, alike = parting_layers(found)
    if not apart:
        return _apart_everywhere(found, names)
    named = listed([f"{cosine:.2f} in {name}" for name, cosine in list(apart.items())[:MOST]])
    more = f" ({len(apart) - MOST} more like these)" if len(apart) > MOST else ""
    assert found is not None, "there are layers"
    others = f"{median(alike):.3f} in the other {len(found.layers) - len(apart)} (median)"
    return f"Cosine of the parents: {named}{more}, {others}{_because(apart)}"


def _apart_everywhere(found: Geometry | None, names: Sequence[str]) -> str:
    """What is said of pairs that have nothing in common; empty where all have something."""
    if found is None:
        return ""
    middle = [
        median(layer.pairs[i].cosine or 0.0 for layer in found.layers)
        for i in range(len(found.total.pairs))
    ]
    if not middle or min(middle) >= APART:
        return ""
    pair = found.total.pairs[middle.index(min(middle))]
    is_one = len(found.total.pairs) == 1 or not names
    those = "the parents" if is_one else f"{names[pair.first]} and {names[pair.second]}"
    return (
        f"Cosine of {those}: {min(middle):.2f} in the median layer: they were initialised "
        "separately, or have long gone separate ways."
    )


def parting_layers(found: Geometry | None) -> tuple[dict[str, float], list[float]]:
    """Layers that lie apart in some pair of models alike elsewhere, and cosines of the others."""
    apart: dict[str, float] = {}
    alike: list[float] = []
    if found is None:
        return apart, alike
    for i in range(len(found.total.pairs)):
        cosines = {layer.layer: layer.pairs[i].cosine or 0.0 for layer in found.layers}
        if median(cosines.values()) >= ALIKE:
            apart |= {name: cosine for name, cosine in cosines.items() if cosine < APART}
            alike += [cosine for cosine in cosines.values() if cosine >= APART]
    return apart, alike


def are_heads(apart: Mapping[str, float]) -> bool:
    """Whether layers that lie apart are all heads, with nothing of a common initialisation left."""
    return bool(apart) and all(
        HEAD.search(name) and cosine < UNLIKE for name, cosine in apart.items()
    )


def _because(apart: Mapping[str, float]) -> str:
    if are_heads(apart):
        heads = "the heads were" if len(apart) > 1 else "the head was"
        return f": {heads} initialised separately."
    return ": were these layers initialised separately?"


def task_vectors(report: Report, found: Geometry | None) -> str:
    """How the task vectors of a merge lie to each other; empty where no base is known."""
    base = base_of(report)
    if found is None or base is None:
        return ""
    cosines = _cosines(report, found.total, base)
    if not cosines:
        return ""
    low, high = min(cosines.values()), max(cosines.values())
    range_ = f"{low:.2f}" if len(cosines) == 1 else f"{low:.2f} to {high:.2f}"
    told = f"The task vectors {_towards(low, high)} (cosine {range_})"
    return f"{told}{_means(low, high)}{_in_conflict(report, found, base)}."


def _cosines(report: Report, layer: LayerGeometry, base: int) -> dict[tuple[str, str], float]:
    """Cosine of task vectors by pair of models."""
    names = [short_name(model.name) for model in report.models]
    return {
        (names[pair.first], names[pair.second]): cosine
        for pair in layer.pairs
        if base not in (pair.first, pair.second)
        and (cosine := task_cosine(pair, layer, base)) is not None
    }


def _towards(low: float, high: float) -> str:
    if low < -ORTHOGONAL:
        return "conflict"
    if high < ORTHOGONAL:
        return "are nearly orthogonal"
    return "agree" if low >= AGREE else "overlap in part"


def _means(low: float, high: float) -> str:
    if low < -ORTHOGONAL:
        return ": what one model learned undoes what another did"
    if high < ORTHOGONAL:
        return ": the skills sit in different directions"
    return ": the models learned much the same" if low >= AGREE else ""


def _in_conflict(report: Report, found: Geometry, base: int) -> str:
    """Layers in which the task vectors of some pair conflict."""
    lowest = {
        layer.layer: min(_cosines(report, layer, base).values(), default=0.0)
        for layer in found.layers
    }
    worst = sorted((name for name in lowest if lowest[name] < CONFLICT), key=lambda n: lowest[n])
    if not worst:
        return ""
    named = listed([f"{name} ({lowest[name]:.2f})" for name in worst[:MOST]])
    more = f" and {len(worst) - MOST} more layers" if len(worst) > MOST else ""
    return f"; they conflict in {named}{more}"


def why(report: Report, found: Geometry | None, *, parted: bool) -> Sequence[str]:
    """What geometry tells of a result.

    Args:
        report: Of the models.
        found: Where they lie.
        parted: Whether something stands between them, or was lost.
    """
    names = [model.name for model in report.models]
    told = [parted_by(found, names) if parted else "", task_vectors(report, found)]
    return [text for text in told if text]
