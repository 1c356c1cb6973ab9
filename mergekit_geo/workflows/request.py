"""A merge as asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.settings import Output
from mergekit_geo.objectives.settings import Compute, EvalData

SHARPNESS = ("off", "quick", "full")


@dataclass(frozen=True)
class Request:
    """A merge as asked for.

    Attributes:
        command: `soup` or `slerp`.
        rule: The merge rule.
        settings: The command's own settings, for the record.
        flags: The same as flags of the command.
        output: How it is written.
        data: What loss is measured on; None measures none.
        compute: How models are run.
        sharpness: `off`, `quick` or `full`.
        warnings: What the user should know of the settings.
    """

    command: str
    rule: Rule
    settings: dict[str, Any]
    flags: Sequence[str]
    output: Output
    data: EvalData | None
    compute: Compute
    sharpness: str = "off"
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.sharpness not in SHARPNESS:
            raise ArgumentError(
                f"sharpness {self.sharpness!r}: expected one of {', '.join(SHARPNESS)}"
            )
