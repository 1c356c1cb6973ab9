"""`geo.check`: do these models belong together? Answered without downloading weights."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.modules import mergeable
from mergekit_geo.checkpoints.origin import model_entry, provenance
from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.errors import ArgumentError
from mergekit_geo.records.model import CheckMeasurements
from mergekit_geo.records.report import Report

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model


@dataclass(frozen=True)
class CheckResult:
    """Whether models can be merged.

    Attributes:
        report: Every difference found.
    """

    report: Report

    @property
    def measurements(self) -> CheckMeasurements:
        """The result part of the report."""
        assert isinstance(self.report.result, CheckMeasurements)
        return self.report.result

    @property
    def compatible(self) -> bool:
        """Whether they can be merged."""
        return self.measurements.compatible

    def __str__(self) -> str:
        found = self.measurements
        verdict = "can be merged" if found.compatible else "cannot be merged"
        return "\n".join([f"the models {verdict}", *found.problems, *found.notes])


def check(models: Sequence[Model]) -> CheckResult:
    """Compare models with the first, downloading no weights.

    Args:
        models: Two or more folders, Hub ids, modules or state dicts.

    Raises:
        ArgumentError: Fewer than two models.
        CheckpointError: One of them cannot be used.

    Example:
        >>> import torch
        >>> print(check([{"w": torch.ones(2)}, {"w": torch.ones(3)}]))
        the models cannot be merged
        w is [2] in model 1 (in memory) and [3] in model 2 (in memory): models of different sizes
    """
    if len(models) < 2:  # noqa: PLR2004
        raise ArgumentError(f"nothing to compare: {len(models)} model", remedy="name at least two")
    began = time.time()
    checkpoints = open_checkpoints(models)
    found = mergeable(checkpoints)
    if found.anchors and all(checkpoint.is_here for checkpoint in checkpoints):
        found.compare_values()
    measured = CheckMeasurements(
        compatible=not found.problems,
        tensors=len(checkpoints[0].tensors),
        notes=found.notes,
        problems=found.problems,
    )
    return CheckResult(
        Report(
            command="check",
            models=[model_entry(checkpoint) for checkpoint in checkpoints],
            result=measured,
            warnings=found.warnings,
            provenance=provenance(began),
        )
    )
