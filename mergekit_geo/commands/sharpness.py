"""`geo.sharpness`: how curved the loss is where models stand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.compatibility import preflight
from mergekit_geo.checkpoints.origin import model_entry, provenance
from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.clock import on_one_clock
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import EvalData
from mergekit_geo.curvature.levels import Radii, level_of
from mergekit_geo.curvature.sample import measure_sharpness, subject
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.losses import plan_losses, source_entry
from mergekit_geo.evaluation.study import require_measurable
from mergekit_geo.outputs.folder import SHARPNESS, MeasuredFolder, measured_folder
from mergekit_geo.progress import Progress, Silent
from mergekit_geo.records.curvature import SharpnessEntry, SharpnessMeasurements, SlopeEntry
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.records.report import Report

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.compatibility import Preflight
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.evaluation.evaluation import Sample
    from mergekit_geo.evaluation.losses import Data

BUILTIN_TEXT = EvalData()


@dataclass(frozen=True)
class SharpnessResult:
    """How curved the loss is where models stand.

    Attributes:
        report: Every number.
        out: The folder with report and pictures, None where none was asked for.
    """

    report: Report
    out: Path | None = None

    @property
    def measurements(self) -> list[SharpnessEntry]:
        """One entry a model, in the order given."""
        assert isinstance(self.report.result, SharpnessMeasurements)
        return self.report.result.sharpness

    def __str__(self) -> str:
        return "\n".join(
            f"{entry.model}: λ_max {entry.extremes.largest.value:.4g}, "
            f"{entry.stationarity.sentence}"
            for entry in self.measurements
        )


@on_one_clock
def sharpness(
    models: Model | Sequence[Model],
    out: str | Path | None = None,
    *,
    level: str = "quick",
    radii: Radii = Radii(),
    overwrite: bool = False,
    data: Data = BUILTIN_TEXT,
    compute: Compute = Compute(),
    progress: Progress | None = None,
) -> SharpnessResult:
    """Measure the curvature of the loss at models, all on the same examples, in float32.

    Finished parts are kept in the user's cache: an interrupted measurement goes on.

    Args:
        models: One or more folders, Hub ids, or modules.
        out: Folder for `report.json` and pictures; None writes nothing.
        level: `quick`: λ_max, SAM sharpness of one step, norms. `full`: also λ_min, trace,
            spectrum, adaptive measures and projected ascent, at some forty times the cost.
        radii: How far from a model the loss is looked at.
        overwrite: Replace an output folder.
        data: What loss is measured on; `max_examples` is the size of the sample, 64 or 128 if None.
        compute: How models are run; the arithmetic is float32 whatever its dtype says.
        progress: Told what is going on.

    Raises:
        ArgumentError: No models, no such level, or a radius that is not positive.
        DataError: Nothing to measure on, too few examples, or a loss that is not a number.
        GeoError: With the reason and the remedy.
    """
    level_of(level)
    with measured_folder(out, SHARPNESS, overwrite=overwrite) as folder:
        return _sharpness(models, folder, level, radii, data, compute, progress or Silent())


def _sharpness(
    models: Model | Sequence[Model],
    folder: MeasuredFolder,
    level: str,
    radii: Radii,
    data: Data,
    compute: Compute,
    told: Progress,
) -> SharpnessResult:
    began, depth = time.time(), level_of(level)
    opened = _opened(models, folder)
    everything = replace(data, max_examples=None) if isinstance(data, EvalData) else data
    plan = plan_losses(opened.anchors, everything, compute)
    require_measurable(plan)
    anchors, warnings = opened.fetch(), opened.warnings
    found = measure_sharpness(
        [subject(anchor, "model", compute) for anchor in anchors],
        plan,
        everything,
        depth,
        radii,
        compute,
        told,
        most=data.max_examples if isinstance(data, EvalData) else None,
    )
    require_unchanged(anchors)
    slope = found.entries[0].slope
    report = Report(
        command="sharpness",
        output=str(folder.out) if folder.out else None,
        models=[model_entry(anchor) for anchor in anchors],
        settings={
            "level": level,
            "radii": asdict(radii),
            "data": asdict(data) if isinstance(data, EvalData) else None,
            "compute": asdict(compute),
        },
        data=_data_entry(data, plan.sample, slope),
        result=SharpnessMeasurements(sharpness=found.entries),
        warnings=[*warnings, *found.warnings],
        provenance=provenance(began, slope.device, slope.dtype, slope.attention),
    )
    folder.write(report)
    return SharpnessResult(report, folder.out)


def _opened(models: Model | Sequence[Model], folder: MeasuredFolder) -> Preflight:
    """Open models, and check that they belong together."""
    several: list[Any] = list(models) if isinstance(models, list | tuple) else [models]
    if not several:
        raise ArgumentError("no models to measure", remedy="name at least one")
    checkpoints = open_checkpoints(several)
    folder.refuse_inputs(checkpoints)
    found = preflight(checkpoints)
    found.require()
    return found


def _data_entry(data: Data, sample: Sample | None, slope: SlopeEntry) -> DataEntry:
    return source_entry(
        data,
        sample,
        documents=slope.documents,
        examples=slope.examples,
        tokens=slope.tokens,
    )
