"""A merge under way, and the report that it becomes."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.blend import Blend
from mergekit_geo.progress import Progress
from mergekit_geo.reports.command import command_line
from mergekit_geo.reports.layers import summarize
from mergekit_geo.reports.provenance import model_entry, provenance
from mergekit_geo.reports.schema import (
    MergeCoefficients,
    MergeMeasurements,
    NotMeasured,
    Report,
)
from mergekit_geo.workflows.losses import LossPlan, LossReport, measure_losses
from mergekit_geo.workflows.request import Request

if TYPE_CHECKING:
    from torch import Tensor

    from mergekit_geo.merging.tensor import TensorRecord


@dataclass
class Draft:
    """A merge under way.

    Attributes:
        request: What was asked for.
        blend: What is merged.
        plan: What will be measured.
        warnings: What the user should know so far.
        notes: Ordinary differences, and what was done about them.
        began: When, in seconds since 1970.
    """

    request: Request
    blend: Blend
    plan: LossPlan
    warnings: list[str]
    notes: list[str]
    began: float

    def measure(
        self, output: Path | tuple[Config, dict[str, Tensor]], progress: Progress
    ) -> LossReport:
        """Losses of the parents and of the output, or why there are none."""
        return measure_losses(
            self.plan,
            self.blend.anchors,
            output,
            self.request.data,
            self.request.compute,
            progress,
        )

    def report(
        self, records: dict[str, TensorRecord], losses: LossReport, out: Path | None
    ) -> Report:
        """All that is known at the end."""
        request = self.request
        entries = [model_entry(anchor) for anchor in self.blend.anchors]
        return Report(
            command=request.command,
            output=str(out) if out else None,
            models=entries,
            settings=self.settings(),
            data=losses.data,
            result=_measurements(request.rule, records, losses),
            warnings=[*self.warnings, *losses.warnings, *_nonfinite(self.blend, records)],
            not_measured=self.not_measured(losses, out),
            provenance=provenance(self.began, losses.device, losses.dtype, losses.attention),
        )

    def settings(self) -> dict[str, Any]:
        """What was asked for, as JSON keeps it."""
        request = self.request
        data = asdict(request.data) if request.data else None
        return {
            **request.settings,
            "output": asdict(request.output),
            "data": data,
            "compute": asdict(request.compute),
            "sharpness": request.sharpness,
            "alignment": self.notes,
        }

    def command_line(self, out: Path) -> str:
        """The command that makes the same merge again, and measures it."""
        request = self.request
        names = [anchor.name for anchor in self.blend.anchors]
        words = [request.command, *names, "-o", str(out), *request.flags]
        output = replace(request.output, overwrite=True)
        return command_line(words, output, *([request.data] if request.data else []))

    def not_measured(self, losses: LossReport, out: Path | None) -> list[NotMeasured]:
        """What a report could hold and this one does not."""
        again = self.command_line(out) if out and self.blend.donor.folder else ""
        missing = [NotMeasured(what="barriers", why="this version measures none")]
        missing += [NotMeasured(what="sharpness", why="this version measures none")]
        if losses.reason:
            missing.insert(0, NotMeasured(what="losses", why=losses.reason, command=again))
        return missing


def _measurements(
    rule: Rule, records: dict[str, TensorRecord], losses: LossReport
) -> MergeMeasurements:
    return MergeMeasurements(
        coefficients=MergeCoefficients(
            method=rule.name,
            weights=list(rule.weights),
            branches=dict(Counter(record.branch for record in records.values())),
        ),
        losses=losses.losses,
        differences=losses.differences,
        barriers=[],
        sharpness=[],
        geometry=summarize({n: r.gram for n, r in records.items() if r.gram is not None}),
    )


def _nonfinite(blend: Blend, records: dict[str, TensorRecord]) -> list[str]:
    return [
        f"{name}: {count} elements of {anchor.name} are NaN or infinite"
        for name, record in records.items()
        for anchor, count in zip(blend.anchors, record.nonfinite, strict=False)
        if count
    ]
