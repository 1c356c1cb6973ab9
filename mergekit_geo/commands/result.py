"""What a merge returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.views.losses import loss_table
from mergekit_geo.views.verdict import is_not_worse, verdict

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MergeResult:
    """A merged model and the evidence for it.

    Attributes:
        report: Every number; `report.json` holds the same, but for what came after it was written:
            `pushed`.
        out: The output folder, None where the result is kept in memory.
        state: The merged tensors by stored name, None where they are in `out`.
        modules: Beside a state in memory: those of modules after the model, by file and name.
    """

    report: Report
    out: Path | None = None
    state: dict[str, Tensor] | None = None
    modules: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def measurements(self) -> MergeMeasurements:
        """The result part of the report."""
        assert isinstance(self.report.result, MergeMeasurements)
        return self.report.result

    @property
    def is_not_worse(self) -> bool:
        """Whether losses tell that the output is not significantly worse than its best parent.

        False where nothing was measured, or on too few documents to tell.
        """
        return is_not_worse(self.report)

    def __str__(self) -> str:
        place = f"-> {self.out}" if self.out else "in memory"
        models = ", ".join(model.name for model in self.report.models)
        lines = [f"{self.measurements.coefficients.method} of {models} {place}"]
        lines += ["  ".join(row) for row in loss_table(self.report).rows]
        lines += [text for text in [verdict(self.report)] if text]
        return "\n".join(lines)
