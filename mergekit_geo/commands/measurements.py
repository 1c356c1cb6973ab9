"""What was done to the tensors of a merge, as numbers and warnings of its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mergekit_geo.commands.sweep_evidence import sweep_entry
from mergekit_geo.evaluation.plan import Evidence
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.gram import summarize
from mergekit_geo.merging.weighed import Weighed
from mergekit_geo.records.merge import MergeCoefficients, MergeMeasurements
from mergekit_geo.records.model import ModelEntry
from mergekit_geo.records.statistics import StatisticEntry
from mergekit_geo.selection.selector import Selected

if TYPE_CHECKING:
    from mergekit_geo.merging.tensor_record import TensorRecord

SHOWN = 5
"""Most tensors that a warning names; the others are counted."""


def measurements(
    selection: Selected,
    records: dict[str, TensorRecord],
    found: Evidence,
    models: Sequence[ModelEntry],
    recipe: dict[str, Any] | list[dict[str, Any]] | None,
) -> MergeMeasurements:
    """What was done to the tensors of a merge, and what it was measured by.

    Args:
        selection: The point that was merged.
        records: What was done to each tensor.
        found: What was measured.
        models: The anchors, as the report names them.
        recipe: The merge as a recipe.
    """
    losses, alone = found.losses, _alone(records.values())
    return MergeMeasurements(
        coefficients=MergeCoefficients(
            method=selection.point.rule.name,
            weights=list(selection.point.rule.weights),
            branches=dict(Counter(record.branch for record in records.values())),
            kept=_kept(records),
            error=max((r.error for r in records.values() if r.error is not None), default=None),
            recipe=recipe,
        ),
        losses=losses.losses,
        differences=losses.differences,
        barriers=losses.barriers,
        sharpness=found.sharpness.entries,
        geometry=summarize({n: r.gram for n, r in records.items() if r.gram is not None}),
        selection=selection.entry,
        unmerged=None if alone is None else models[alone].name,
        tokenization=losses.tokenization,
        influence=losses.influence,
        sets=losses.sets,
        across=losses.across,
        by_layer=losses.by_layer,
        examples=losses.examples,
        sweep=sweep_entry(selection, losses),
        statistics=_statistics(selection, records),
        entropy=selection.entropy,
    )


def _statistics(selection: Selected, records: dict[str, TensorRecord]) -> list[StatisticEntry]:
    """What was computed of the models, with what each is in the merge where elements differ."""
    rule = selection.point.rule
    if not isinstance(rule, Weighed):
        return list(selection.statistics)
    found = [(r.coefficients, r.gram.count) for r in records.values()
             if r.branch == rule.name and r.gram]  # fmt: skip
    total = sum(count for _, count in found)
    means = [
        sum(shares[i] * count for shares, count in found) / total if total else None
        for i in range(len(selection.statistics))
    ]
    return [
        entry.model_copy(update={"share": share})
        for entry, share in zip(selection.statistics, means, strict=True)
    ]


def _alone(records: Iterable[TensorRecord]) -> int | None:
    """Index of the model that every tensor is taken from as it is; None where there is none."""
    merged = [record for record in records if record.coefficients or record.kept]
    found = {record.coefficients for record in merged}
    if len(found) != 1 or any(record.kept for record in merged):
        return None
    (shares,) = found
    is_whole = sorted(shares) == [0.0] * (len(shares) - 1) + [1.0]
    return shares.index(1.0) if is_whole else None


def _kept(records: dict[str, TensorRecord]) -> list[float | None]:
    """The share of each task vector that was kept."""
    masked = [(r.kept, r.gram.count) for r in records.values() if r.kept and r.gram]
    total = sum(count for _, count in masked)
    if not total:
        return []
    return [None, *(sum(kept) / total for kept in zip(*(kept for kept, _ in masked), strict=True))]


def nonfinite_warnings(blend: Blend, records: Mapping[str, TensorRecord]) -> list[str]:
    """A line for each model that holds some, and one for those that the merge has made."""
    found = []
    for i, anchor in enumerate(blend.anchors):
        held = {name: r.nonfinite[i] for name, r in records.items() if r.nonfinite}
        found.append(_line(held, f"of {anchor.name} are NaN or infinite"))
    made = {name: record.lost for name, record in records.items()}
    text = "are finite in every model, and NaN or infinite in the output"
    return [line for line in (*found, _line(made, text)) if line]


def _line(counts: Mapping[str, int], text: str) -> str:
    """One tensor and its count, or the sum and the first few.

    >>> _line({"w": 2, "b": 0}, "are odd"), _line({"w": 2, "b": 1}, "are odd")
    ('w: 2 elements are odd', '3 elements are odd, in 2 tensors: w (2), b (1)')
    """
    some = {name: count for name, count in counts.items() if count}
    if len(some) <= 1:
        return "".join(f"{name}: {count} elements {text}" for name, count in some.items())
    named = ", ".join(f"{name} ({count})" for name, count in [*some.items()][:SHOWN])
    rest = f", and {len(some) - SHOWN} more" if len(some) > SHOWN else ""
    return f"{sum(some.values())} elements {text}, in {len(some)} tensors: {named}{rest}"
