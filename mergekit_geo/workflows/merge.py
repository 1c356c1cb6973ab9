"""What soup and slerp share: preflight, stream, measure, report, publish."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.companions import companion_files, copy_companions, write_config
from mergekit_geo.checkpoints.compatibility import preflight
from mergekit_geo.checkpoints.layout import parse_size
from mergekit_geo.checkpoints.workspace import MARK, Workspace, check_output
from mergekit_geo.checkpoints.writer import output_errors
from mergekit_geo.errors import AntipodalError, ArgumentError, NonFiniteError
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.settings import DTYPES, Output
from mergekit_geo.objectives.settings import Compute, EvalData
from mergekit_geo.progress import Progress
from mergekit_geo.reports.card import model_card
from mergekit_geo.reports.command import command_line
from mergekit_geo.reports.layers import summarize
from mergekit_geo.reports.provenance import model_entry, provenance, versions
from mergekit_geo.reports.schema import (
    MergeCoefficients,
    MergeMeasurements,
    NotMeasured,
    Report,
)
from mergekit_geo.reports.tables import loss_rows, verdict
from mergekit_geo.workflows.losses import LossPlan, LossReport, measure_losses, plan_losses

if TYPE_CHECKING:
    from torch import Tensor

    from mergekit_geo.merging.tensor import TensorRecord

SHARPNESS = ("off", "quick", "full")


@dataclass(frozen=True)
class MergeResult:
    """A merged model and the evidence for it.

    Attributes:
        report: Every number; `report.json` holds the same.
        out: The output folder, None where the result is kept in memory.
        state: The merged tensors by stored name, None where they are in `out`.
    """

    report: Report
    out: Path | None = None
    state: dict[str, Tensor] | None = None

    @property
    def measurements(self) -> MergeMeasurements:
        """The result part of the report."""
        assert isinstance(self.report.result, MergeMeasurements)
        return self.report.result

    def __str__(self) -> str:
        place = f"-> {self.out}" if self.out else "in memory"
        models = ", ".join(model.name for model in self.report.models)
        lines = [f"{self.measurements.coefficients.method} of {models} {place}"]
        lines += ["  ".join(row) for row in loss_rows(self.report)]
        lines += [text for text in [verdict(self.report)] if text]
        return "\n".join(lines)


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


def merge(
    checkpoints: Sequence[Checkpoint], request: Request, out: Path | None, progress: Progress
) -> MergeResult:
    """Merge checkpoints into a folder, or in memory, and measure what came of it.

    Raises:
        GeoError: With the reason and the remedy; nothing is half-written.
    """
    began = time.time()
    found = preflight(checkpoints)
    found.require()
    if out is not None:
        inputs = [c.folder for c in checkpoints if c.folder is not None]
        check_output(out, inputs, overwrite=request.output.overwrite)
    plan = plan_losses(checkpoints, request.data)
    progress.say(f"{len(checkpoints)} models, {sum_parameters(checkpoints[0]):,} parameters each")
    blend = Blend(found.fetch(), request.rule, request.output.stored_dtype)
    draft = _Draft(request, blend, plan, [*request.warnings, *found.warnings], found.notes, began)
    if out is None:
        return _in_memory(draft, progress)
    return _on_disk(draft, out, progress)


def sum_parameters(checkpoint: Checkpoint) -> int:
    """Number of elements of a checkpoint's float tensors."""
    return sum(info.count for info in checkpoint.tensors.values() if info.is_float)


@dataclass
class _Draft:
    """A merge under way."""

    request: Request
    blend: Blend
    plan: LossPlan
    warnings: list[str]
    notes: list[str]
    began: float

    def measure(
        self, output: Path | tuple[Config, dict[str, Tensor]], progress: Progress
    ) -> LossReport:
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
        again = self.command_line(out) if out and self.blend.donor.folder else ""
        missing = [NotMeasured(what="barriers", why="this version measures none")]
        missing += [NotMeasured(what="sharpness", why="this version measures none")]
        if losses.reason:
            missing.insert(0, NotMeasured(what="losses", why=losses.reason, command=again))
        return missing


def _in_memory(draft: _Draft, progress: Progress) -> MergeResult:
    from mergekit_geo.merging.stream import MemorySink, stream

    output = draft.request.output
    sink = MemorySink(draft.blend)
    progress.phase("merging", draft.blend.work())
    records = stream(
        draft.blend,
        sink,
        device=output.device,
        allow_nonfinite=output.allow_nonfinite,
        advance=progress.advance,
    )
    donor = draft.blend.donor
    losses = draft.measure((donor.config, sink.state), progress)
    tied = {alias: sink.state[name] for alias, name in donor.ties.items()}
    return MergeResult(draft.report(records, losses, None), state={**sink.state, **tied})


def _on_disk(draft: _Draft, out: Path, progress: Progress) -> MergeResult:
    with output_errors(out.absolute().parent, _output_bytes(draft.blend)):
        return _written(draft, out, progress)


def _output_bytes(blend: Blend) -> int:
    folder = blend.donor.folder
    beside = [folder / file for file in companion_files(folder)] if folder else []
    weights = sum(info.nbytes for info in blend.outputs().values())
    return weights + sum(path.stat().st_size for path in beside)


def _written(draft: _Draft, out: Path, progress: Progress) -> MergeResult:
    from mergekit_geo.merging.disk import write_blend
    from mergekit_geo.merging.stream import check_device

    output = draft.request.output
    check_device(output.device)
    workspace = Workspace(out, _identity(draft), overwrite=output.overwrite, fsync=output.fsync)
    _tell_of_earlier_run(draft, workspace)
    try:
        progress.phase("merging", draft.blend.work())
        records = write_blend(
            draft.blend,
            workspace,
            parse_size(output.max_shard_size),
            device=output.device,
            allow_nonfinite=output.allow_nonfinite,
            advance=progress.advance,
        )
        _write_companions(draft.blend, workspace.folder)
        _write_recipe(draft, records, workspace.folder)
        losses = draft.measure(workspace.folder, progress)
        report = draft.report(records, losses, out)
        (workspace.folder / "report.json").write_text(report.to_json(), "utf-8")
        (workspace.folder / "README.md").write_text(model_card(report), "utf-8")
        workspace.publish()
    except (AntipodalError, NonFiniteError):  # no other run could use what is there
        workspace.discard()
        raise
    finally:
        workspace.leave()
    return MergeResult(report, out=out)


def _identity(draft: _Draft) -> list[Any]:
    """All that the merged bytes depend on."""
    output, blend = draft.request.output, draft.blend
    anchors = [anchor.identity() for anchor in blend.anchors]
    numbers = [output.dtype, output.max_shard_size, output.allow_nonfinite, output.device]
    return [versions()["mergekit_geo"], repr(blend.rule), numbers, anchors]


def _tell_of_earlier_run(draft: _Draft, workspace: Workspace) -> None:
    if workspace.restarted:
        draft.warnings.append(
            f"{workspace.folder} held unfinished work of another recipe or of inputs that have "
            "changed since: started over"
        )
    elif workspace.finished:
        draft.notes.append(f"resumed: {len(workspace.finished)} tensors were written already")


def _write_companions(blend: Blend, folder: Path) -> None:
    dtype = next((name for name, stored in DTYPES.items() if stored == blend.dtype), None)
    if blend.donor.folder is not None:
        copy_companions(blend.donor.folder, folder, dtype)
    elif blend.donor.config:
        write_config(folder, blend.donor.config, dtype)


def _write_recipe(draft: _Draft, records: dict[str, TensorRecord], folder: Path) -> None:
    recipe = {
        "method": draft.request.rule.name,
        "settings": draft.settings(),
        "models": [model_entry(anchor).model_dump() for anchor in draft.blend.anchors],
        "versions": versions(),
        "tensors": {
            name: {"branch": record.branch, "coefficients": record.coefficients}
            for name, record in records.items()
        },
    }
    (folder / MARK).write_text(json.dumps(recipe, indent=1) + "\n", "utf-8")


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
