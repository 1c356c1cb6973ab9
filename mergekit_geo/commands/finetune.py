"""`geo.finetune`: a checkpoint trained further, by SAM or by an ordinary optimizer."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.checkpoint import FolderCheckpoint
from mergekit_geo.checkpoints.foreign_links import link_warnings
from mergekit_geo.checkpoints.left_out import left_out, left_out_warning
from mergekit_geo.checkpoints.origin import count_parameters, model_entry, provenance, versions
from mergekit_geo.checkpoints.overlay import Overlay
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.clock import on_one_clock
from mergekit_geo.commands.merge import write_companions
from mergekit_geo.commands.push import prepare_push, push_output
from mergekit_geo.config.command_line import command_line
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import EvalData
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.losses import OUTPUT
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.limits import check_count
from mergekit_geo.merging.blend import Blend
from mergekit_geo.outputs.config import OutputConfig
from mergekit_geo.outputs.layout import parse_size
from mergekit_geo.outputs.workspace import check_output
from mergekit_geo.outputs.writer import output_errors
from mergekit_geo.processes import agreed, by_first, is_first
from mergekit_geo.progress import Progress, Silent
from mergekit_geo.records.reading import REPORT
from mergekit_geo.records.report import NotMeasured, Report
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.training.config import SamArguments
from mergekit_geo.training.hyperparameters import Training
from mergekit_geo.training.store import RECORD, TUNED, TrainingFolder, kept_identity
from mergekit_geo.training.tuning import Asked, Tuning, make_tuning
from mergekit_geo.views.files import write_report
from mergekit_geo.views.losses import loss_table
from mergekit_geo.views.verdict import is_not_worse, verdict

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.commands.draft import Evidence
    from mergekit_geo.curvature.sample import SharpnessReport
    from mergekit_geo.evaluation.losses import Data, LossReport
    from mergekit_geo.training.job import Trained

BUILTIN_TEXT = EvalData()


@dataclass(frozen=True)
class FinetuneResult:
    """A fine-tuned model and the evidence for it.

    Attributes:
        report: Every number; `report.json` holds the same.
        out: Its folder; that of all members where there are several.
        members: The result of each, where there are several.
    """

    report: Report
    out: Path
    members: tuple[FinetuneResult, ...] = ()

    @property
    def measurements(self) -> FinetuneMeasurements:
        """The result part of the report of one model."""
        assert isinstance(self.report.result, FinetuneMeasurements)
        return self.report.result

    @property
    def is_not_worse(self) -> bool:
        """Whether losses tell that the model, or each member, is not significantly worse now.

        False where nothing was measured, or on too few documents to tell.
        """
        if self.members:
            return all(member.is_not_worse for member in self.members)
        return is_not_worse(self.report)

    def __str__(self) -> str:
        if self.members:
            return "\n".join(map(str, self.members))
        lines = [f"{self.report.models[0].name}, fine-tuned -> {self.out}"]
        lines += ["  ".join(row) for row in loss_table(self.report).rows]
        lines += [text for text in [verdict(self.report)] if text]
        return "\n".join(lines)


@on_one_clock
def finetune(
    model: Model,
    out: str | Path,
    *,
    train_data: Data,
    training: Training = Training(),
    sam: SamArguments = SamArguments(),
    members: int | None = None,
    seed: int = 0,
    resume: bool = False,
    output: OutputConfig = OutputConfig(),
    data: Data = BUILTIN_TEXT,
    compute: Compute = Compute(),
    sharpness: str = "quick",
    progress: Progress | None = None,
) -> FinetuneResult:
    """Train a checkpoint further (SAM; Foret 2021), and measure it before and after.

    Training is in float32, under bfloat16 autocast if asked for; the weights are rounded to the
    checkpoint's own dtype at the end, and measured as they are then. Under torchrun or accelerate
    launch the processes share the work. An interrupted run can be resumed to the same bits.

    Args:
        model: A folder, Hub id, or module, which is copied.
        out: Folder to write.
        train_data: What is trained on, always training data.
        training: How.
        sam: How SAM steps; a rho of 0 is the optimizer alone.
        members: Train so many with seeds `seed`, `seed + 1`, ... into `out/member-0`, ...
        seed: Of the order of examples, dropout and adapters.
        resume: Go on where an interrupted run was; start where there is none.
        output: How the checkpoint is written.
        data: Held-out data; None measures nothing.
        compute: How models are run when they are measured.
        sharpness: Before and after: `off`, `quick` or `full`, as in `geo.sharpness`.
        progress: Told what is going on.

    Raises:
        ArgumentError: An invalid setting, or another run's state to resume from.
        DataError: No training data, or none that fits the model.
        NonFiniteError: The loss is not a number in too many steps in a row.
        GeoError: With the reason and the remedy; nothing is half-written.
    """
    told = progress or Silent()
    asked = Asked(train_data, training, sam, seed, output, data, compute, sharpness)
    check_output(Path(out), overwrite=output.overwrite, kind=TUNED)
    check_count("members", members, 2)
    if members is not None and output.push_to is not None:
        raise ArgumentError(
            "several members go to several repositories", remedy="geo-merge push OUT/member-0 REPO"
        )
    by_first(lambda: prepare_push(output, Path(out)))
    tuning = make_tuning(model, asked)
    if members is None:
        found = tune(tuning, Path(out), told, resume=resume)
        if not is_first():
            return agreed(found)
        pushed = push_output(found.report, output, told, holds=found.is_not_worse)
        return agreed(replace(found, report=pushed))
    from mergekit_geo.commands.members import tune_members

    return tune_members(tuning, members, Path(out), told, resume=resume)


def tune(
    tuning: Tuning, out: Path, progress: Progress, *, resume: bool, shown: Path | None = None
) -> FinetuneResult:
    """Train one model into a folder that appears whole or not at all.

    Args:
        tuning: What, on what, and how.
        out: The folder.
        progress: Told what is going on.
        resume: Go on with an unfinished run.
        shown: What the report calls the folder, if it is still to be moved.

    Raises:
        GeoError: As `finetune`.
    """
    base = tuning.base
    inputs = [base.folder] if base.folder is not None else []
    check_output(out, inputs, overwrite=tuning.asked.output.overwrite, kind=TUNED)
    folder = TrainingFolder(out, tuning.identity(), tuning.asked.output, resume=resume)
    try:
        with output_errors(out.absolute().parent, needed_bytes(base)):
            progress.say(f"{base.name}: {count_parameters(base):,} parameters")
            report = _finished(tuning, folder) or _made(tuning, folder, shown or out, progress)
            folder.publish()
    finally:
        folder.leave()
    return FinetuneResult(report, out)


def _finished(tuning: Tuning, folder: TrainingFolder) -> Report | None:
    """The report of an earlier run that measured on the same data but did not publish."""
    if not folder.is_ready:
        return None
    report = Report.model_validate_json((folder.folder / REPORT).read_bytes())
    asked = json.loads(json.dumps(tuning.asked.settings()))
    return report if report.settings == asked else None


def _made(tuning: Tuning, folder: TrainingFolder, out: Path, progress: Progress) -> Report:
    """Train, write, measure and report."""
    from mergekit_geo.training.job import let_go, train

    began = time.time()
    trained = train(tuning, folder, progress)
    let_go()
    tuned = _write_weights(tuning, trained, folder, progress)
    found = _measure(tuning, tuned, folder.folder, progress)
    require_unchanged([tuning.base])
    report = _report(tuning, trained, found, out, began)
    if is_first():
        write_record(report, folder.folder, tuning.identity())
    return report


def needed_bytes(base: Checkpoint) -> int:
    """Bytes of the weights, and of two states with an optimizer's."""
    return sum(info.nbytes + 6 * 4 * info.count for info in base.tensors.values())


def _write_weights(
    tuning: Tuning, trained: Trained, folder: TrainingFolder, progress: Progress
) -> Checkpoint:
    """Write weights, configuration and tokenizer; returns the checkpoint to be published."""
    from mergekit_geo.merging.disk import write_blend

    output = tuning.asked.output
    overlay = Overlay(tuning.base, trained.state, OUTPUT)
    if folder.workspace is not None:
        blend = Blend((overlay,), Linear((1.0,)), output.stored_dtype)
        progress.phase("writing", blend.work())
        most = parse_size(output.max_shard_size)
        write_blend(blend, folder.workspace, most, advance=progress.advance)
        write_companions(blend, folder.folder)
    agreed(None)
    return overlay if tuning.base.folder is None else FolderCheckpoint(folder.folder, OUTPUT)


def _measure(tuning: Tuning, tuned: Checkpoint, folder: Path, progress: Progress) -> Evidence:
    from mergekit_geo.commands.before_after import compare

    if isinstance(tuned, Overlay):
        return compare(tuning, tuned, (tuned.config, dict(tuned.state)), progress)
    return compare(tuning, tuned, folder, progress)


def _report(tuning: Tuning, trained: Trained, found: Evidence, out: Path, began: float) -> Report:
    losses, sharpness = found.losses, found.sharpness
    beside = left_out(tuning.base)
    return Report(
        command="finetune",
        output=str(out),
        models=[model_entry(tuning.base)],
        settings=tuning.asked.settings(),
        data=losses.data,
        result=FinetuneMeasurements(
            training=trained.entry,
            losses=losses.losses,
            differences=losses.differences,
            barriers=losses.barriers,
            sharpness=sharpness.entries,
        ),
        left_out=beside,
        warnings=[
            *overlap_warnings(tuning),
            *link_warnings(tuning.base),
            *left_out_warning(tuning.base.name, beside),
            *losses.warnings,
            *sharpness.warnings,
        ],
        not_measured=_not_measured(tuning, found, out),
        provenance=provenance(began, losses.device, losses.dtype, losses.attention),
    )


def overlap_warnings(tuning: Tuning) -> list[str]:
    """Warn when held-out documents are also among the training data."""
    if not tuning.overlap:
        return []
    return [
        f"{tuning.overlap} held-out documents are among the training data: their losses say little"
    ]


def _not_measured(tuning: Tuning, found: Evidence, out: Path) -> list[NotMeasured]:
    data = [tuning.asked.data] if isinstance(tuning.asked.data, EvalData) else []
    names = [tuning.base.name, str(out)] if tuning.base.folder is not None else []
    parts: dict[str, LossReport | SharpnessReport] = {
        "losses": found.losses,
        "sharpness": found.sharpness,
    }
    words = {"losses": ["barrier", *names], "sharpness": ["sharpness", *names, "--budget=0"]}
    return [
        NotMeasured(
            what=what,
            why=part.reason,
            command=command_line(words[what], *data) if names and not part.fails else "",
            failed=part.fails,
        )
        for what, part in parts.items()
        if part.reason
    ]


def write_record(report: Report, folder: Path, identity: dict[str, Any] | None = None) -> None:
    """Write `report.json`, and the file that marks and identifies a fine-tuned model."""
    record: dict[str, Any] = {
        "models": [model.model_dump() for model in report.models],
        "settings": report.settings,
        "versions": versions(),
    }
    if identity is not None:
        record["identity"] = kept_identity(identity)
    if any(folder.glob("*.safetensors")):
        record["tensors"] = dict.fromkeys(FolderCheckpoint(folder).tensors)
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    write_report(report, folder)
