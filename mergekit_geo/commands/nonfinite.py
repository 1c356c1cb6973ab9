"""What is said of NaN and infinities that a merge was allowed to go on over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mergekit_geo.merging.blend import Blend

if TYPE_CHECKING:
    from mergekit_geo.merging.tensor import TensorRecord

SHOWN = 5
"""Most tensors that a warning names; the others are counted."""


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
