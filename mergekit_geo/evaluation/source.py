"""What is measured or trained on: settings of data, an objective of the caller's, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mergekit_geo.config.data import EvalData
    from mergekit_geo.evaluation.objective import FunctionObjective, Objective

    Data = EvalData | FunctionObjective | None


class DataSource(Protocol):
    """Settings of data, an objective of the caller's, or nothing."""

    @property
    def seed(self) -> int:
        """Seed of samples, halves and intervals; 0 where there are no settings."""

    @property
    def as_settings(self) -> EvalData | None:
        """The settings, which can be read again; None where there are none."""

    @property
    def as_objective(self) -> Objective | None:
        """The objective of the caller's, ready to be measured; None where it is none."""

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


class NoData:
    """Null object for data: there is nothing to measure or train on."""

    seed = 0
    as_settings = as_objective = None
    is_nothing = True
    is_default = is_named = False

    def settings(self) -> None:
        """No settings."""


NO_DATA = NoData()


def source_of(data: Data) -> DataSource:
    """What was given, or no data for None.

    Example:
        >>> source_of(None).is_nothing, source_of(None).seed
        (True, 0)
    """
    return NO_DATA if data is None else data
