"""What a merge chose by loss."""

from __future__ import annotations

from mergekit_geo.records.record import Record


class SelectionEntry(Record):
    """What was chosen by loss, on the selection half.

    Attributes:
        method: Such as `greedy`, `learned` or `best along linear`.
        chosen: The choice in words.
        documents: How many documents it was chosen on.
        steps: What was tried, and its loss there.
        left_out: Models outside the largest basin, and why.
        sharpness: λ_max on the selection half, of the points that were compared by it.
        started_from: Where a learned soup started: the best parent, the uniform or the greedy soup.
    """

    method: str
    chosen: str
    documents: int
    steps: list[tuple[str, float]]
    left_out: list[str] = []
    sharpness: list[tuple[str, float]] = []
    started_from: str | None = None
