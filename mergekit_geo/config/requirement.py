"""What an output must hold: the words of `--require`."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from mergekit_geo.config.sets import NAME
from mergekit_geo.errors import ArgumentError
from mergekit_geo.printable import nearest_of

NOT_WORSE = "not-worse"
FORM = f"{NOT_WORSE}[:SET,...][@loss|@score]"
WORDS = re.compile(rf"{NOT_WORSE}(:(?P<sets>[^@]*))?(@(?P<by>.*))?", re.DOTALL)

By = Literal["loss", "score"]


@dataclass(frozen=True)
class Requirement:
    """An output is not significantly worse than the best parent of each of some sets.

    Attributes:
        sets: Their names; all if empty.
        by: The loss, or the task's metric.

    Example:
        >>> Requirement.parse("not-worse:code,chat@score")
        Requirement(sets=('code', 'chat'), by='score')
        >>> Requirement.parse("not-worse")
        Requirement(sets=(), by='loss')
    """

    sets: tuple[str, ...] = ()
    by: By = "loss"

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """The requirement that a text says.

        Raises:
            ArgumentError: It says none.
        """
        found = WORDS.fullmatch(text)
        if found is None:
            raise _refusal(text)
        names = () if found["sets"] is None else tuple(found["sets"].split(","))
        for name in names:
            if not NAME.fullmatch(name):
                raise _refusal(text, f"{name!r} is no name of a set")
        by = found["by"] or "loss"
        if by not in ("loss", "score") or found["by"] == "":
            raise _refusal(text, f"{found['by']!r} is neither loss nor score")
        return cls(names, "score" if by == "score" else "loss")

    def require_known(self, names: Collection[str]) -> None:
        """Refuse a set that there is not.

        Args:
            names: Of the sets that there are.

        Raises:
            ArgumentError: It names those that there are.

        Example:
            >>> Requirement(("prose",)).require_known(["code", "chat"])
            Traceback (most recent call last):
            mergekit_geo.errors.ArgumentError: no set 'prose' to require (the sets are code, chat)
        """
        for name in self.sets:
            if not names:
                raise ArgumentError(f"no set {name!r} to require: nothing is measured")
            if name not in names:
                raise ArgumentError(
                    f"no set {name!r} to require",
                    remedy=f"{nearest_of(name, names)}the sets are {', '.join(names)}",
                )


def _refusal(text: str, why: str = "") -> ArgumentError:
    told = f"require {text!r}: {f'{why}; ' if why else ''}expected {FORM}"
    return ArgumentError(told, remedy="such as not-worse, or not-worse:code,chat@score")
