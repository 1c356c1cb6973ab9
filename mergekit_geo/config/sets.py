"""Evaluation sets by name: what they have in common with one, and what they are called."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from mergekit_geo.errors import ArgumentError
from mergekit_geo.files.local_path import local_path, problem_of

if TYPE_CHECKING:
    from mergekit_geo.config.data import EvalData
    from mergekit_geo.config.model_data import ModelData

NAME = re.compile(r"[A-Za-z0-9_-]+")
NAMED = re.compile(r"([A-Za-z0-9_-]+)=(.+)", re.DOTALL)
"""`NAME=SOURCE`."""

LM_EVAL = "lm-eval:"
"""What a source begins with that names tasks of lm-evaluation-harness."""


class DataSource(Protocol):
    """Settings of data, an objective of the caller's, several of them by name, or nothing."""

    @property
    def seed(self) -> int:
        """Seed of samples, halves and intervals; 0 where there are no settings."""

    @property
    def as_settings(self) -> EvalData | None:
        """The settings, which can be read again; None where there are none."""

    @property
    def as_objective(self) -> Any:
        """The objective of the caller's, ready to be measured; None where it is none."""

    @property
    def spoken(self) -> EvalData | EvalSets | ModelData | None:
        """What a command line can say of it; None where it can say nothing."""

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to measure on."""

    @property
    def is_default(self) -> bool:
        """Whether it is the built-in text, and nobody named it."""

    @property
    def is_named(self) -> bool:
        """Whether somebody said what it is, rather than to take the built-in text by default."""

    def settings(self) -> dict[str, Any] | None:
        """The settings as a JSON value."""

    def replaced(self, **changes: Any) -> DataSource:
        """Copy with other settings, where there are settings."""


@dataclass(frozen=True)
class EvalSet:
    """A set of examples that losses are measured on.

    Attributes:
        name: Letters, digits, `-` and `_`.
        data: What it is.
    """

    name: str
    data: DataSource

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ArgumentError(
                f"a set is called {self.name!r}: expected letters, digits, '-' and '_'"
            )

    @property
    def weight(self) -> float:
        """What it counts beside other sets."""
        return float(getattr(self.data, "weight", 1.0))


@dataclass(frozen=True)
class EvalSets:
    """Evaluation sets; as one source of data it is the first of them.

    Attributes:
        sets: In their order, with distinct names.
        said: The same as a command line says it; None where none can.

    Raises:
        ArgumentError: No sets, two of one name, or weights that cannot be meant.

    Example:
        >>> from mergekit_geo.config.data import EvalData
        >>> sets = EvalSets((EvalSet("code", EvalData("a.jsonl")), EvalSet("chat", EvalData("b"))))
        >>> sets.names, sets.as_settings.origin
        (('code', 'chat'), 'a.jsonl')
    """

    sets: tuple[EvalSet, ...]
    said: EvalData | None = None

    is_nothing: ClassVar[bool] = False
    is_named: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.sets:
            raise ArgumentError("no evaluation sets", remedy="name at least one")
        if twice := [name for name, count in Counter(self.names).items() if count > 1]:
            raise ArgumentError(
                f"two sets are called {twice[0]!r}", remedy="name them apart: --data NAME=SOURCE"
            )
        weights = [one.weight for one in self.sets]
        if not all(0 <= weight < math.inf for weight in weights):
            raise ArgumentError(f"weights of sets are numbers from 0 on, found {weights}")
        if not sum(weights):
            raise ArgumentError("the weights of all sets sum to zero")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sets."""
        return tuple(one.name for one in self.sets)

    @property
    def seed(self) -> int:
        """Seed of the first set."""
        return self.sets[0].data.seed

    @property
    def as_settings(self) -> EvalData | None:
        """Settings of the first set."""
        return self.sets[0].data.as_settings

    @property
    def as_objective(self) -> Any:
        """Objective of the first set, where it is the caller's."""
        return self.sets[0].data.as_objective

    @property
    def spoken(self) -> EvalSets | None:
        """These sets, where a command line can say them."""
        return self if self.said is not None and self.said.source else None

    @property
    def is_default(self) -> bool:
        """Whether they are nothing but the built-in text, and nobody named it."""
        return all(one.data.is_default for one in self.sets)

    def settings(self) -> dict[str, Any]:
        """Name, weight and settings of each set as a JSON value."""
        return {
            "sets": [
                {"name": one.name, "weight": one.weight, **(one.data.settings() or {})}
                for one in self.sets
            ]
        }

    def replaced(self, **changes: Any) -> EvalSets:
        """Copy in which every set has other settings."""
        sets = tuple(replace(one, data=one.data.replaced(**changes)) for one in self.sets)
        return EvalSets(sets, self.said and self.said.replaced(**changes))


def named(source: str) -> tuple[str, str]:
    """The name and the source of one evaluation set; a path that exists is a source.

    Args:
        source: `NAME=SOURCE`, or a source, which is called after its stem.

    Example:
        >>> named("code=runs/held.jsonl"), named("runs/held-out.jsonl"), named("org/texts")
        (('code', 'runs/held.jsonl'), ('held-out', 'runs/held-out.jsonl'), ('texts', 'org/texts'))
        >>> named("builtin:python-docs")
        ('python-docs', 'builtin:python-docs')
    """
    found = NAMED.fullmatch(source)
    if found and not _exists(source):
        return found[1], found[2]
    return stem(source), source


def is_named(source: str) -> bool:
    """Whether a source gives its set a name.

    Example:
        >>> is_named("code=held.jsonl"), is_named("held.jsonl")
        (True, False)
    """
    return bool(NAMED.fullmatch(source)) and not _exists(source)


def benchmarks_in(source: str) -> list[str]:
    """Names of the tasks of lm-evaluation-harness in a source; none in any other.

    Example:
        >>> benchmarks_in("lm-eval:piqa, arc_easy"), benchmarks_in("held.jsonl")
        (['piqa', 'arc_easy'], [])
    """
    if not source.startswith(LM_EVAL):
        return []
    return [name.strip() for name in source.removeprefix(LM_EVAL).split(",") if name.strip()]


def one_by_one(source: str) -> list[str]:
    """The tasks of a source, each by itself; a source that is named, or no tasks, as it is.

    Example:
        >>> one_by_one("lm-eval:piqa,arc_easy"), one_by_one("quiz=lm-eval:piqa,arc_easy")
        (['lm-eval:piqa', 'lm-eval:arc_easy'], ['quiz=lm-eval:piqa,arc_easy'])
    """
    return [f"{LM_EVAL}{name}" for name in benchmarks_in(source)] or [source]


def stem(source: str) -> str:
    """What a set is called after its source.

    Example:
        >>> stem("runs/my texts.v2.jsonl"), stem("/")
        ('my-texts-v2', 'data')
    """
    last = PurePath(source.rpartition(":")[2]).stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-") or "data"


def _exists(source: str) -> bool:
    return problem_of(source) is None and local_path(source).exists()


def sets_named(pairs: Iterable[tuple[str, DataSource]], said: EvalData | None = None) -> EvalSets:
    """Evaluation sets of names and what each is."""
    return EvalSets(tuple(EvalSet(name, one) for name, one in pairs), said)
