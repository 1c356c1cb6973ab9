"""Which examples an output does worse or better than its parents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mergekit_geo.evaluation.example_rows import Described
from mergekit_geo.evaluation.sign_test import sign_test
from mergekit_geo.records.examples import Change, ExampleEntry, ExamplesEntry
from mergekit_geo.records.losses import finite

if TYPE_CHECKING:
    from mergekit_geo.evaluation.losses import NamedLosses
    from mergekit_geo.tasks.losses import Floats, Indices, Losses

TELLING = 5
"""Examples to each side that a report has."""
MOST = 100
"""Largest rises, and falls, that a file of examples has."""
SHOWN = 300
"""Characters of a text that a report has."""


@dataclass(frozen=True)
class ChangedExamples:
    """Examples that changed, for a report and for a file of their own.

    Attributes:
        entry: Counts, and the most telling ones.
        rows: All that were lost or gained, and the largest rises and falls.
    """

    entry: ExamplesEntry
    rows: Sequence[dict[str, Any]]


def changed_examples(
    name: str, models: NamedLosses, described: Described, numbers: Indices | None
) -> ChangedExamples | None:
    """Compare an output with its parents, example by example; None without parents.

    Rises and falls are ordered by what they add to the difference of the mean losses.

    Args:
        name: Of the evaluation set.
        models: Name, role and losses of each on the same examples, the output last.
        described: Names and texts of the examples.
        numbers: The examples' numbers; None where they are whole documents.
    """
    parents = [(title, losses) for title, role, losses in models if role == "parent"]
    if not parents:
        return None
    title, _, output = models[-1]
    found = _Comparison([*parents, (title, output)])
    order = found.order()
    entry = ExamplesEntry(
        models=found.names,
        best=found.best[0],
        examples=len(output.loss),
        lost=None if found.right is None else int(found.lost.sum()),
        gained=None if found.right is None else int(found.gained.sum()),
        documents=sign_test(output, found.best[1]),
        telling=[_entry(found, i, described, numbers) for i in _telling(order)],
    )
    rows = [_row(name, found, i, described, numbers) for i in _kept(order)]
    return ChangedExamples(entry, rows)


class _Comparison:
    """Losses and scores of parents and output, side by side (m models, n examples)."""

    def __init__(self, models: Sequence[tuple[str, Losses]]) -> None:
        self.names = [name for name, _ in models]
        self.losses = [losses for _, losses in models]
        self.output = self.losses[-1]
        self.best = min(models[:-1], key=lambda one: one[1].mean)

    @cached_property
    def right(self) -> Floats | None:
        """(m, n) 1 where a model is right, 0 where it is not; None where it may be partly right."""
        scores = [losses.score for losses in self.losses if losses.score is not None]
        if len(scores) < len(self.losses) or not self.scored.any():
            return None
        found = np.stack(scores)
        whole = np.isin(found[:, self.scored], (0.0, 1.0)).all()
        return found if whole else None

    @cached_property
    def scored(self) -> Any:
        """(n,) whether an example has a score."""
        return self.output.weight_of_score > 0

    @cached_property
    def lost(self) -> Any:
        """(n,) whether all parents are right and the output is wrong."""
        if self.right is None:
            return np.zeros(len(self.output.loss), bool)
        return self.scored & (self.right[:-1] == 1).all(0) & (self.right[-1] == 0)

    @cached_property
    def gained(self) -> Any:
        """(n,) whether the output is right, and no parent."""
        if self.right is None:
            return np.zeros(len(self.output.loss), bool)
        return self.scored & (self.right[:-1] == 0).all(0) & (self.right[-1] == 1)

    @cached_property
    def rise(self) -> Floats:
        """(n,) what an example adds to the difference from the best parent."""
        found = self.output.weight * (self.output.loss - self.best[1].loss)
        return np.asarray(np.nan_to_num(found, nan=0.0))

    def order(self) -> dict[Change, list[int]]:
        """Examples by what became of them, the most telling first."""
        down, up = np.argsort(-self.rise, kind="stable"), np.argsort(self.rise, kind="stable")
        told = self.lost | self.gained
        return {
            "lost": [i for i in down.tolist() if self.lost[i]],
            "gained": [i for i in up.tolist() if self.gained[i]],
            "rise": [i for i in down.tolist() if self.rise[i] > 0 and not told[i]],
            "fall": [i for i in up.tolist() if self.rise[i] < 0 and not told[i]],
        }

    def change(self, number: int) -> Change:
        """What became of an example."""
        if self.lost[number]:
            return "lost"
        if self.gained[number]:
            return "gained"
        return "rise" if self.rise[number] > 0 else "fall"

    def scores(self, number: int) -> list[float | None]:
        """The score of each model; empty where there is none."""
        if not self.scored[number] or any(losses.score is None for losses in self.losses):
            return []
        return [finite(cast("Floats", losses.score)[number]) for losses in self.losses]


def _telling(order: dict[Change, list[int]]) -> list[int]:
    worse = [*order["lost"], *order["rise"]][:TELLING]
    return [*worse, *[*order["gained"], *order["fall"]][:TELLING]]


def _kept(order: dict[Change, list[int]]) -> Iterable[int]:
    return [*order["lost"], *order["gained"], *order["rise"][:MOST], *order["fall"][:MOST]]


def _entry(
    found: _Comparison, number: int, described: Described, numbers: Indices | None
) -> ExampleEntry:
    document = int(found.output.document[number])
    example = None if numbers is None else int(numbers[number])
    about = described.of(document, example)
    return ExampleEntry(
        change=found.change(number),
        example=example,
        document=document,
        name=about["name"],
        label=about["label"],
        text=shortened(about["text"]),
        weight=float(found.output.weight[number]),
        loss=[finite(losses.loss[number]) for losses in found.losses],
        score=found.scores(number),
    )


def _row(
    name: str, found: _Comparison, number: int, described: Described, numbers: Indices | None
) -> dict[str, Any]:
    entry = _entry(found, number, described, numbers)
    best = found.names.index(found.best[0])
    return {
        "set": name,
        "change": entry.change,
        "example": entry.example,
        "document": entry.document,
        "difference": finite(found.output.loss[number] - found.losses[best].loss[number]),
        "weight": entry.weight,
        "loss": dict(zip(found.names, entry.loss, strict=True)),
        "score": dict(zip(found.names, entry.score, strict=True)) if entry.score else None,
        **described.of(entry.document, entry.example),
    }


def shortened(text: str | None) -> str | None:
    r"""The beginning of a text, on one line.

    Example:
        >>> shortened("a  b\n" + "c" * 400)[-4:], shortened("a  b\nc"), shortened(None)
        ('ccc…', 'a b c', None)
    """
    if text is None:
        return None
    line = " ".join(text[: 4 * SHOWN].split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
