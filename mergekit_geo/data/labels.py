"""The classes that a model's configuration names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.errors import DataError

SHOWN = 12
WHOLE = re.compile(r"-?[0-9]{1,9}(\.0*)?")
LABEL = ("label", "labels", "target", "class", "category", "score")
DEFAULT_COUNT = 2  # transformers' own, where a configuration names no labels


class ClassId(int):
    """A class number from a data set that also names its classes.

    Attributes:
        names: Of all its classes.

    Example:
        >>> LabelMap(2, {"no": 0, "yes": 1}).index(ClassId.of(0, ("yes", "no")), "x:1", "x")
        1
    """

    names: Sequence[str] = ()

    @classmethod
    def of(cls, number: int, names: Sequence[str]) -> ClassId:
        """The class of a number, with the data set's names."""
        found = cls(number)
        found.names = names
        return found


@dataclass(frozen=True)
class LabelMap:
    """Classes of a model, and their names.

    Attributes:
        count: How many.
        ids: Name to class.
    """

    count: int
    ids: Mapping[str, int]

    @classmethod
    def of(cls, config: Config) -> LabelMap:
        """Read the classes from `id2label` and `label2id`, or `num_labels`.

        Example:
            >>> LabelMap.of({"id2label": {"0": "no", "1": "yes"}}).ids
            {'no': 0, 'yes': 1}
        """
        names = {int(key): str(name) for key, name in (config.get("id2label") or {}).items()}
        count = len(names) or int(config.get("num_labels") or DEFAULT_COUNT)
        ids = {name: key for key, name in names.items()}
        given = {str(name): int(key) for name, key in (config.get("label2id") or {}).items()}
        return cls(count, {**ids, **given})

    def index(self, cell: Any, row: str, source: str) -> int:
        """Class of a cell: a number, or a name.

        Args:
            cell: Such as 1, `"1"` or `"yes"`.
            row: What its row is called, for the message.
            source: Where the row is from.

        Raises:
            DataError: Not one of the model's; the message lists those.

        Example:
            >>> LabelMap(2, {"no": 0, "yes": 1}).index("yes", "x.csv:1", "x.csv")
            1
        """
        found = self.ids.get(cell) if isinstance(cell, str) else None
        if isinstance(cell, ClassId) and 0 <= cell < len(cell.names):
            found = self._by_name(cell)
        if found is None:
            found = _whole(cell)
        if found is None or not 0 <= found < self.count:
            raise DataError(
                f"{row} has the label {cell!r}, which the model's map lacks: it has {self}",
                where=source,
                remedy="give labels of the model; a test split may have none",
            )
        return found

    def name(self, index: int) -> str:
        """What a class is called; its number where it has no name.

        Example:
            >>> LabelMap(2, {"no": 0, "yes": 1}).name(1)
            'yes'
        """
        return next((name for name, number in self.ids.items() if number == index), str(index))

    def _by_name(self, cell: ClassId) -> int | None:
        """The model's number of a class by its name, if it knows all classes of the data."""
        return self.ids[cell.names[cell]] if self.ids.keys() >= {*cell.names} else None

    def __str__(self) -> str:
        names = {number: name for name, number in self.ids.items()}
        shown = [
            f"{i} ({names[i]})" if i in names else str(i) for i in range(min(self.count, SHOWN))
        ]
        more = f" and {self.count - SHOWN} more" if self.count > SHOWN else ""
        return ", ".join(shown) + more


def _whole(cell: Any) -> int | None:
    """A whole number, in digits too, as CSV has it; beside empty cells it may have `1.0`."""
    if isinstance(cell, str):
        return int(cell.strip().partition(".")[0]) if WHOLE.fullmatch(cell.strip()) else None
    whole = isinstance(cell, Real) and float(cell).is_integer()
    return int(cell) if whole else None
