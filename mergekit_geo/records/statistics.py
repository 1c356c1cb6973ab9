"""Statistics of models on their data, by which a method merges them."""

from __future__ import annotations

from typing import Any

from mergekit_geo.records import Record


class StatisticEntry(Record):
    """What was computed of one model.

    Attributes:
        model: Its name.
        kind: Such as `Fisher`.
        source: The data.
        shared: Whether it is the source for all models that none is named for.
        digest: SHA-256 of the documents.
        documents: How many the examples are from.
        examples: How many were gone through.
        available: How many there were.
        labels: `sampled` from the model, or those of the `data`; empty where none have a part.
        settings: What else it depends on.
        reused: Whether an earlier run computed it.
        seconds: What it took, in that run where it is reused; null where that is not known.
        share: Mean factor of the model over all merged elements, where elements have their own.
    """

    model: str
    kind: str
    source: str
    shared: bool
    digest: str
    documents: int
    examples: int
    available: int
    labels: str = ""
    settings: dict[str, Any] = {}
    reused: bool = False
    seconds: float | None = None
    share: float | None = None
