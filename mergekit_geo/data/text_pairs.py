"""Columns of texts that belong together: pairs, with or without negatives, and scored pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergekit_geo.config.data import EvalData
from mergekit_geo.data.rows import Rows, find_column
from mergekit_geo.errors import DataError

PARTNERS: Mapping[str, Sequence[str]] = {
    "anchor": ("positive",),
    "query": ("positive", "document", "passage", "answer"),
    "question": ("positive", "answer", "context"),
    "sentence1": ("sentence2",),
    "sentence_A": ("sentence_B",),
    "text1": ("text2",),
    "question1": ("question2",),
}
"""Usual names of a text, and of the one that belongs to it."""

SCORE = ("score", "similarity", "similarity_score", "relatedness_score")
NEGATIVE = "negative"
CLASSES = ("label", "labels")
SCALES = (1, 5, 10, 100)
"""Tops of the scales on which people score how alike two texts are."""

FIRST_FLAG, SECOND_FLAG = "--text-column", "--label-column"


@dataclass(frozen=True)
class PairColumns:
    """Which columns hold what.

    Attributes:
        first: A text.
        second: The one that belongs to it, or is compared with it.
        negatives: Texts that do not belong to it.
        score: How alike the two are; None where every pair belongs together.
    """

    first: str
    second: str
    negatives: tuple[str, ...] = ()
    score: str | None = None

    @classmethod
    def of(cls, rows: Rows, data: EvalData) -> PairColumns:
        """Choose the columns: those that are named, else those of usual names.

        Raises:
            DataError: A text has no partner, or a column of classes could be scores.
        """
        usual = [name for name, others in PARTNERS.items() if {*others} & {*rows.columns}]
        first = find_column(
            rows, data.text_column, (*usual, *PARTNERS), "the first text of a pair", FIRST_FLAG
        )
        named, score = data.label_column, None
        if named is not None and _is_text(rows, named):
            return cls(first, named, _negatives(rows))
        second = _partner(rows, first)
        score = named or next((name for name in SCORE if name in rows.columns), None)
        if score is None and (found := [name for name in CLASSES if name in rows.columns]):
            raise DataError(
                f"column {found[0]!r} stands beside pairs of texts, and may be classes or scores",
                where=rows.source,
                remedy=f"{SECOND_FLAG} {found[0]} takes it for scores of how alike they are; or "
                "leave the column out, and the pairs that do not belong together",
            )
        if score is not None:
            find_column(rows, score, (), "score", SECOND_FLAG)
            return cls(first, second, (), score)
        return cls(first, second, _negatives(rows))

    @property
    def texts(self) -> list[str]:
        """Columns of texts."""
        return [self.first, self.second, *self.negatives]

    @property
    def needed(self) -> list[str]:
        """Columns that must not be empty."""
        return [*self.texts, *([self.score] if self.score else [])]


def scores_of(rows: Rows, column: str) -> list[float]:
    """Scores of all rows as shares of the top of their scale, which is 1, 5, 10 or 100.

    Raises:
        DataError: A cell is no number, or below -1, or above 100.

    Example:
        >>> rows = Rows([{"score": 5.0}, {"score": 2}], ["x:1", "x:2"], "x")
        >>> scores_of(rows, "score"), rows.notes
        ([1.0, 0.4], ["scores in column 'score' are divided by 5"])
    """
    found = [number_in(cells[column]) for cells in rows.cells]
    for value, name in zip(found, rows.names, strict=True):
        if not -1 <= value <= SCALES[-1]:
            raise DataError(
                f"{name} has no score in column {column!r} that is a number from -1 to 100",
                where=rows.source,
                remedy=f"name the column of scores with {SECOND_FLAG}",
            )
    top = next(scale for scale in SCALES if max(found) <= scale)
    if top > 1:
        rows.notes.append(f"scores in column {column!r} are divided by {top}")
    return [value / top for value in found]


def _partner(rows: Rows, first: str) -> str:
    found = [name for name in PARTNERS.get(first, ()) if name in rows.columns]
    if found:
        note = f"its partner is taken from column {found[0]!r}"
        rows.notes.extend([] if note in rows.notes else [note])
        return found[0]
    wanted = " or ".join(map(repr, PARTNERS.get(first, ()))) or "a second text"
    raise DataError(
        f"texts in column {first!r} have no partner: expected {wanted}; the columns are "
        f"{', '.join(rows.columns)}",
        where=rows.source,
        remedy=f"name the column of the texts that belong to them with {SECOND_FLAG}",
    )


def _negatives(rows: Rows) -> tuple[str, ...]:
    """`negative`, `negative_1`, `negative_2` and so on."""
    return tuple(name for name in rows.columns if name.partition("_")[0] == NEGATIVE)


def _is_text(rows: Rows, column: str) -> bool:
    find_column(rows, column, (), "score or second text", SECOND_FLAG)
    cells = (row[column] for row in rows.cells)
    return isinstance(next((cell for cell in cells if cell is not None), None), str)


def number_in(cell: Any) -> float:
    """The number in a cell; NaN where there is none."""
    try:
        return float(cell)
    except (TypeError, ValueError):
        return math.nan
