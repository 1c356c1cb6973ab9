"""The numbers of a model's sharpness, with the titles that its records give them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mergekit_geo.records import Record
from mergekit_geo.records.curvature import SharpnessEntry, Titled

FIRST = ("extremes", "trace", "sam_sharpness", "ascent")
"""Parts of an entry that are shown before the others."""
LAMBDA_MAX = "λ_max"


@dataclass(frozen=True)
class ShownNumber:
    """A number of a model.

    Attributes:
        value: None where it was not measured.
        error: Its standard error, or an eigenvalue's residual where that is larger; None where
            it has none.
    """

    value: float | None
    error: float | None = None

    @property
    def text(self) -> str:
        """The value with its error; empty where it was not measured."""
        if self.value is None:
            return ""
        return f"{self.value:.4g}" if self.error is None else f"{self.value:.4g} ± {self.error:.2g}"


def numbers_of(entry: SharpnessEntry) -> dict[str, ShownNumber]:
    """Every number of a model that its records mark as shown, by title."""
    rest = [name for name in type(entry).model_fields if name not in FIRST]
    return dict(_shown(entry, (*FIRST, *rest, *(entry.model_extra or ())), ""))


def _shown(
    record: Record, names: tuple[str, ...], before: str
) -> Iterator[tuple[str, ShownNumber]]:
    for name in names:
        mark, found = _mark(record, name), getattr(record, name)
        title = before + (mark.title if mark else "")
        if isinstance(found, Record):
            yield from _shown(found, tuple(type(found).model_fields), title)
        elif mark is not None:
            yield title, ShownNumber(found, getattr(record, mark.error) if mark.error else None)


def _mark(record: Record, name: str) -> Titled | None:
    known = type(record).model_fields.get(name)
    marks = [one for one in known.metadata if isinstance(one, Titled)] if known else []
    return marks[0] if marks else None


def lambda_max(entry: SharpnessEntry) -> str:
    """λ_max with its error, as text."""
    return numbers_of(entry)[LAMBDA_MAX].text
