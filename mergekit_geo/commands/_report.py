"""The report of a command, of what it was asked and what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.origin import model_entry, provenance
from mergekit_geo.config.flags import settings_of
from mergekit_geo.records.report import Report
from mergekit_geo.specs.spec import Spec


def report_of(
    asked: Spec,
    result: Any,
    models: Sequence[Checkpoint],
    began: float,
    *,
    place: tuple[str | None, str | None, str | None] = (None, None, None),
    settings: Mapping[str, Any] = {},
    output: str | None = None,
    **known: Any,
) -> Report:
    """The report of a command.

    Args:
        asked: Its options.
        result: The record of what it found.
        models: The models that it names.
        began: When, in seconds since 1970.
        place: Device, dtype and attention that models were run with.
        settings: What is recorded beside the options.
        output: The folder that the command is about, where it is not the one that it writes.
        known: Further parts: `data`, `warnings`, `not_measured`, `left_out`.
    """
    return Report(
        command=asked.command,
        output=output or (str(asked.target) if asked.target else None),
        models=[model_entry(model) for model in models],
        settings={**settings_of(asked), **settings},
        result=result,
        provenance=provenance(began, *place),
        **known,
    )
