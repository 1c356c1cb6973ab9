"""`geo.finetune`: a checkpoint trained further, by SAM or by an ordinary optimizer."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.derived import overlay
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.checkpoints.left_out import left_out, left_out_warning, link_warnings
from mergekit_geo.checkpoints.origin import count_parameters, model_entry, provenance, versions
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.commands._merge import write_side_files
from mergekit_geo.commands._run import command
from mergekit_geo.commands.push import prepare_push, push_output
from mergekit_geo.commands.result import Result
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import EvalData, source_of
from mergekit_geo.config.output import parse_size
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.losses import OUTPUT
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.outputs.output import READY, Output
from mergekit_geo.processes import broadcast, is_main_process, main_process_first
from mergekit_geo.progress import Progress
from mergekit_geo.records.report import REPORT, NotMeasured, Report
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.specs.measures import BarrierSpec, SharpnessSpec
from mergekit_geo.specs.spec import Spec, command_line
from mergekit_geo.specs.training import FinetuneSpec
from mergekit_geo.training.store import RECORD, TUNED, begin_training, stored_fingerprint
from mergekit_geo.training.tuning import Tuning, TuningRequest, make_tuning

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.commands.draft import Evidence
    from mergekit_geo.evaluation.plan import LossReport, SharpnessReport
    from mergekit_geo.training.job import TrainedModel


@command(FinetuneSpec)
def finetune(asked: FinetuneSpec) -> Result:
    """Train a checkpoint further (SAM; Foret 2021), and measure it before and after.

    Training is in float32, under bfloat16 autocast if asked for; the weights are rounded to the
    checkpoint's own dtype at the end, and measured as they are then. Under torchrun or accelerate
    launch the processes share the work. An interrupted run can be resumed to the same bits.

    Raises:
        ArgumentError: An invalid setting, or another run's state to resume from.
        DataError: No training data, or none that fits the model.
        NonFiniteError: The loss is not a number in too many steps in a row.
        GeoError: With the reason and the remedy; nothing is half-written.
    """
    told, output = asked.told, asked.output
    tuned = TuningRequest(
        asked.train_data, asked.training, asked.sam, asked.seed, output, asked.data, asked.compute,
        asked.sharpness,
    )  # fmt: skip
    from mergekit_geo.commands.members import kind_of_members, tune_members

    kind = TUNED if asked.members is None else kind_of_members(asked.members)
    with Output.of(asked.out, kind, output) as place:
        if asked.members is not None and output.push_to is not None:
            raise ArgumentError(
                "several members go to several repositories",
                remedy="geo-merge push OUT/member-0 REPO",
            )
        main_process_first(lambda: prepare_push(output, place.out))
        tuning = make_tuning(asked.model, tuned)
        if asked.members is not None:
            return tune_members(tuning, asked.members, place, told, resume=asked.resume)
        found = tune(tuning, place, told, resume=asked.resume)
    if not is_main_process():
        return broadcast(found)
    pushed = push_output(found.report, output, told, holds=found.is_not_worse)
    return broadcast(replace(found, report=pushed))


def tune(
    tuning: Tuning, output: Output, progress: Progress, *, resume: bool, shown: Path | None = None
) -> Result:
    """Train one model into a folder that appears whole or not at all.

    Args:
        tuning: What, on what, and how.
        output: The folder.
        progress: Told what is going on.
        resume: Go on with an unfinished run.
        shown: What the report calls the folder, if it is still to be moved.

    Raises:
        GeoError: As `finetune`.
    """
    base, out = tuning.base, output.out
    assert out is not None
    output.refuse_inputs([base])
    output.need(sum(info.nbytes for info in base.tensors.values()))
    output.need(needed_bytes(base), at_once=False)
    begin_training(output, tuning.fingerprint(), resume=resume)
    with output.writing():
        progress.say(f"{base.name}: {count_parameters(base):,} parameters")
        earlier = main_process_first(lambda: _finished(tuning, output))
        if earlier is not None:
            output.publish()
            return Result(earlier, out)
        report = _made(tuning, output, shown or out, progress)
    output.publish(report, lambda folder: write_record(report, folder, tuning.fingerprint()))
    return Result(report, out)


def _finished(tuning: Tuning, output: Output) -> Report | None:
    """The report of an earlier run that measured on the same data but did not publish."""
    if not output.is_ready:
        return None
    report = Report.model_validate_json((output.folder / REPORT).read_bytes())
    asked = json.loads(json.dumps(tuning.asked.settings()))
    if report.settings == asked:
        return report
    (output.folder / READY).unlink()  # from now on nothing is finished there
    return None


def _made(tuning: Tuning, folder: Output, out: Path, progress: Progress) -> Report:
    """Train, write, measure and report."""
    from mergekit_geo.training.job import let_go, train

    began = time.time()
    trained = train(tuning, folder, progress)
    let_go()
    tuned = _write_weights(tuning, trained, folder, progress)
    found = _measure(tuning, tuned, folder.folder, progress)
    require_unchanged([tuning.base])
    return _report(tuning, trained, found, out, began)


def needed_bytes(base: Checkpoint) -> int:
    """Bytes of the weights, and of two states with an optimizer's."""
    return sum(info.nbytes + 6 * 4 * info.count for info in base.tensors.values())


def _write_weights(
    tuning: Tuning, trained: TrainedModel, folder: Output, progress: Progress
) -> Checkpoint:
    """Write weights, configuration and tokenizer; returns the checkpoint to be published."""
    from mergekit_geo.merging.disk import write_blend

    output = tuning.asked.output
    tuned = overlay(tuning.base, trained.state, OUTPUT)
    if is_main_process():
        blend = Blend((tuned,), Linear((1.0,)), output.stored_dtype)
        progress.phase("writing", blend.work())
        most = parse_size(output.max_shard_size)
        write_blend(blend, folder, most, advance=progress.advance)
        write_side_files(blend, folder.folder)
    broadcast(None)
    return tuned if tuning.base.folder is None else open_folder(folder.folder, OUTPUT)


def _measure(tuning: Tuning, tuned: Checkpoint, folder: Path, progress: Progress) -> Evidence:
    from mergekit_geo.commands.before_after import compare

    if tuned.state is not None:
        return compare(tuning, tuned, (tuned.config, dict(tuned.state)), progress)
    return compare(tuning, tuned, folder, progress)


def _report(
    tuning: Tuning, trained: TrainedModel, found: Evidence, out: Path, began: float
) -> Report:
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
    data = source_of(tuning.asked.data).as_settings or EvalData()
    names = [tuning.base.name, str(out)]
    parts: dict[str, tuple[LossReport | SharpnessReport, Spec]] = {
        "losses": (found.losses, BarrierSpec(names, data=data)),
        "sharpness": (found.sharpness, SharpnessSpec(names, data=data, compute=Compute(budget=0))),
    }
    can = tuning.base.folder is not None
    return [
        NotMeasured(
            what=what,
            why=part.reason,
            command=command_line(again) if can and not part.fails else "",
            failed=part.fails,
        )
        for what, (part, again) in parts.items()
        if part.reason
    ]


def write_record(report: Report, folder: Path, fingerprint: dict[str, Any] | None = None) -> None:
    """Write the file that marks and identifies a fine-tuned model."""
    record: dict[str, Any] = {
        "models": [model.model_dump() for model in report.models],
        "settings": report.settings,
        "versions": versions(),
    }
    if fingerprint is not None:
        record["identity"] = stored_fingerprint(fingerprint)
    if any(folder.glob("*.safetensors")):
        record["tensors"] = dict.fromkeys(open_folder(folder).tensors)
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
