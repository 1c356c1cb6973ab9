"""What goes wrong while a model is measured, whose weights are there already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergekit_geo.config.data import source_of
from mergekit_geo.errors import GeoError, InternalError, is_of_this_package

if TYPE_CHECKING:
    from mergekit_geo.config.data import Data


@dataclass(frozen=True)
class Failure:
    """Why something was not measured.

    Attributes:
        reason: For the report.
        fails: Whether the command fails for it, although its output is whole.
    """

    reason: str
    fails: bool


def failure(error: Exception, data: Data) -> Failure:
    """Classify an error in measuring: a reason for the report, or a failure of the command.

    Args:
        error: Of ours, or of a model's or a tokenizer's own code, which raise anything.
        data: As asked for: nobody who named it takes no measurement for an answer.
    """
    if isinstance(error, AssertionError) and is_of_this_package(error):
        return Failure(str(InternalError.of(error)), True)
    told = str(error) if isinstance(error, GeoError) else f"{type(error).__name__}: {error}"
    return Failure(told, source_of(data).is_named)
