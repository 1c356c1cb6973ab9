"""Examples that an output does worse or better than its parents, on one evaluation set."""

from __future__ import annotations

from typing import Literal

from mergekit_geo.records import Record
from mergekit_geo.records.losses import Finite, SignTest

Change = Literal["lost", "gained", "rise", "fall"]
"""All parents right and the output wrong; the output alone right; a higher loss; a lower one."""


class ExampleEntry(Record):
    """An example that changed.

    Attributes:
        change: What became of it; `lost` and `gained` go before `rise` and `fall`.
        example: Its number among all that were measured, from 0; null where whole documents were
            compared.
        document: Number of its document.
        name: What its document is called; null where nothing names it.
        label: Its true class, of classifiers.
        text: Its beginning; a hash with `--private-examples`; null where it is no text, or was left
            out before it was pushed.
        weight: What it counts: its predicted tokens, its bytes, or 1.
        loss: Of each model, in the order of `ExamplesEntry.models`.
        score: Likewise; empty where the task has none.
    """

    change: Change
    example: int | None
    document: int
    name: str | None
    label: str | None
    text: str | None
    weight: float
    loss: list[Finite]
    score: list[Finite] = []


class ExamplesEntry(Record):
    """Which examples changed.

    Attributes:
        models: The parents, then the output.
        best: The parent with the lowest loss, which rises and falls are counted from.
        examples: How many were compared.
        lost: How many all parents have right and the output wrong; null where a task's score is no
            matter of right or wrong.
        gained: How many the output alone has right.
        documents: On how many documents the output's loss is above that parent's, and below.
        telling: The most telling ones, those that were lost first.
    """

    models: list[str]
    best: str
    examples: int
    lost: int | None
    gained: int | None
    documents: SignTest
    telling: list[ExampleEntry]
