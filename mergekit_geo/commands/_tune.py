"""One model fine-tuned: trained, written, and measured before and after."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.derived import overlay
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.checkpoints.left_out import left_out, left_out_warning, link_warnings
from mergekit_geo.checkpoints.origin import count_parameters, model_entry, versions
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.commands._run import Findings
from mergekit_geo.commands._write import write_side_files
from mergekit_geo.commands.evidence import sharpness_evidence
from mergekit_geo.commands.merged import MergedModel, MergedState
from mergekit_geo.commands.not_measured import missing_on_sets, unmeasured
from mergekit_geo.commands.parent_barriers import at_once, coarse_barriers, coarse_points
from mergekit_geo.commands.set_evidence import SetEvidence, attempt_each, require_finite
from mergekit_geo.config.data import EvalData, source_of
from mergekit_geo.config.measures import Compute
from mergekit_geo.config.output import parse_size
from mergekit_geo.config.selection import INNER_POINTS
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.losses import OUTPUT, run_with
from mergekit_geo.evaluation.model_losses import OutputLosses, keep_losses
from mergekit_geo.evaluation.over_sets import SetReport, nothing_measured, over_sets
from mergekit_geo.evaluation.plan import Evidence, LossReport, SharpnessReport
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.evaluation.study import Study
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.disk import write_blend
from mergekit_geo.outputs.output import READY, Output
from mergekit_geo.processes import broadcast, is_main_process, main_process_first
from mergekit_geo.records.report import REPORT, NotMeasured, Report
from mergekit_geo.records.training import BeforeAndAfter, FinetuneMeasurements
from mergekit_geo.specs.measures import BarrierSpec, SharpnessSpec
from mergekit_geo.specs.spec import Spec, command_line, repeated
from mergekit_geo.tasks.losses import Indices
from mergekit_geo.training.job import let_go, train
from mergekit_geo.training.store import RECORD, begin_training, stored_fingerprint
from mergekit_geo.training.tuning import Retraining, Tuning

if TYPE_CHECKING:
    from torch import Tensor


def tune(tuning: Tuning, output: Output, *, shown: Path | None = None) -> Findings:
    """Train one model into a folder that appears whole or not at all.

    Args:
        tuning: What, on what, and how.
        output: The folder.
        shown: What the report calls the folder, if it is still to be moved.

    Raises:
        GeoError: As `finetune`.
    """
    base, out = tuning.base, shown or output.out
    assert out is not None
    output.refuse_inputs([base])
    output.need(sum(info.nbytes for info in base.tensors.values()))
    output.need(needed_bytes(base), at_once=False)
    fingerprint = tuning.fingerprint()
    begin_training(output, fingerprint, resume=tuning.asked.resume)
    with output.writing():
        tuning.asked.told.say(f"{base.name}: {count_parameters(base):,} parameters")
        earlier = main_process_first(lambda: finished(tuning, output))
        if earlier is not None:
            return Findings(earlier=earlier)
        found = _made(tuning, output, out)

    def fill(report: Report, folder: Path) -> None:
        write_record(report, folder, fingerprint)

    return replace(found, output=str(out), fill=fill)


def finished(tuning: Retraining[Any], output: Output) -> Report | None:
    """The report of an earlier run that measured on the same data but did not publish."""
    if not output.is_ready:
        return None
    report = Report.model_validate_json((output.folder / REPORT).read_bytes())
    if report.settings == json.loads(json.dumps(tuning.asked.settings())):
        return report
    (output.folder / READY).unlink()  # from now on nothing is finished there
    return None


def _made(tuning: Tuning, output: Output, out: Path) -> Findings:
    """Train, write and measure."""
    trained = train(tuning, output)
    let_go()
    tuned = write_weights(tuning, trained.state, output)
    stored = None if tuned.state is None else MergedState(tuned.config, dict(tuned.state))
    found = compare(tuning, tuned, stored or output.folder / tuning.base.inside)
    require_unchanged([tuning.base])
    measured = FinetuneMeasurements(training=trained.entry, **before_and_after(found))
    return findings_of(tuning, measured, found, out)


def needed_bytes(base: Checkpoint) -> int:
    """Bytes of the weights, and of two states with an optimizer's."""
    return sum(info.nbytes + 6 * 4 * info.count for info in base.tensors.values())


def write_weights(
    tuning: Retraining[Any], state: Mapping[str, Tensor], output: Output
) -> Checkpoint:
    """Write weights, configuration and tokenizer; returns the checkpoint to be published.

    Args:
        tuning: Knows the model before.
        state: Tensors that have changed by stored name, on the CPU.
        output: The folder.
    """
    config, progress = tuning.asked.output, tuning.asked.told
    tuned = overlay(tuning.base, state, OUTPUT)
    if is_main_process():
        blend = Blend((tuned,), Linear((1.0,)), config.stored_dtype)
        progress.phase("writing", blend.work())
        most = parse_size(config.max_shard_size)
        write_blend(blend, output, most, advance=progress.advance)
        write_side_files(blend, output.folder, allow_nonfinite=False)
    broadcast(None)
    return tuned if tuning.base.folder is None else open_folder(output.folder, OUTPUT)


def before_and_after(found: Evidence) -> dict[str, Any]:
    """Fields of what was measured of a model before and after."""
    losses = found.losses
    return {
        "losses": losses.losses,
        "differences": losses.differences,
        "barriers": losses.barriers,
        "sharpness": found.sharpness.entries,
        "sets": losses.sets,
        "across": losses.across,
    }


def findings_of(
    tuning: Retraining[Any], measured: BeforeAndAfter, found: Evidence, out: Path | None
) -> Findings:
    """Findings of a model that was trained on.

    Args:
        tuning: Of what, and on what.
        measured: Result of the command.
        found: What was measured, with its warnings.
        out: Where the output is; None where it stays in memory.
    """
    losses, base = found.losses, tuning.base
    beside = left_out(base)
    asked = tuning.asked if out is None else replace(tuning.asked, out=out)
    return Findings(
        measured,
        [model_entry(base)],
        (losses.device, losses.dtype, losses.attention),
        data=losses.data,
        warnings=[
            *overlap_warnings(tuning),
            *link_warnings(base),
            *left_out_warning(base.name, beside),
            *losses.warnings,
            *found.sharpness.warnings,
        ],
        not_measured=[] if out is None else not_measured(tuning, found, out),
        left_out=beside,
        again=repeated(asked),
        published=lambda folder: keep_losses(losses.output, folder / base.inside),
    )


def overlap_warnings(tuning: Retraining[Any]) -> list[str]:
    """Warn when held-out documents are also among the training data."""
    if not tuning.overlap:
        return []
    return [
        f"{tuning.overlap} held-out documents are among the training data: their losses say little"
    ]


def not_measured(tuning: Retraining[Any], found: Evidence, out: Path) -> list[NotMeasured]:
    data = source_of(tuning.asked.data).spoken or EvalData()
    names = [tuning.base.name, str(out)]
    parts: dict[str, tuple[LossReport | SharpnessReport, Spec]] = {
        "losses": (found.losses, BarrierSpec(names, data=data)),
        "sharpness": (found.sharpness, SharpnessSpec(names, data=data, compute=Compute(budget=0))),
    }
    can = tuning.base.folder is not None
    if found.losses.sets:
        del parts["losses"]
    return [
        *missing_on_sets(found.losses),
        *(
            unmeasured(what, part, command_line(again) if can and not part.fails else "")
            for what, (part, again) in parts.items()
            if part.reason
        ),
    ]


def write_record(
    report: Report, folder: Path, fingerprint: dict[str, Any] | None = None, name: str = RECORD
) -> None:
    """Write the file that marks and identifies a fine-tuned model.

    Args:
        report: Of the command.
        folder: The output.
        fingerprint: Of the run.
        name: Of the file.
    """
    record: dict[str, Any] = {
        "models": [model.model_dump() for model in report.models],
        "settings": report.settings,
        "versions": versions(),
    }
    if fingerprint is not None:
        record["identity"] = stored_fingerprint(fingerprint)
    if any(folder.glob("*.safetensors")):
        record["tensors"] = dict.fromkeys(open_folder(folder).tensors)
    (folder / name).write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def compare(
    tuning: Retraining[Any], tuned: Checkpoint, output: MergedModel, *, half: bool = False
) -> Evidence:
    """Measure losses and sharpness before and after training, or say why they are missing.

    A failure is a reason in the report, not an error: the trained weights are there already.

    Args:
        tuning: Knows the model before.
        tuned: The model after, as it is stored.
        output: The same as a folder, or as configuration and tensors.
        half: Report losses on the report half alone, where it is large enough.
    """
    study, anchors = tuning.study(), (tuning.base, tuned)
    if study.plan.objective is None:
        return Evidence.missing(study.plan.reason)
    with study.clock.running():
        losses = _losses(study, anchors, half=half)
        sharpness = sharpness_evidence(study, anchors[:1], output, tuning.asked.sharpness)
    return Evidence(losses, sharpness)


def _losses(study: Study, anchors: tuple[Checkpoint, Checkpoint], *, half: bool) -> LossReport:
    try:
        return over_sets(_measured(study, anchors, half=half))
    except Exception as error:  # a model's and a tokenizer's own code raise anything
        return nothing_measured(study, error)


def _measured(
    study: Study, anchors: tuple[Checkpoint, Checkpoint], *, half: bool
) -> list[SetReport]:
    evaluator = PointEvaluator.open(study, 2 + INNER_POINTS, anchors=anchors, refresh_models=False)
    at_once(evaluator, (Point.model(i, name) for i, name in enumerate(evaluator.names)))
    at_once(evaluator, coarse_points(evaluator))
    sets = [SetEvidence(one.study, one.module_evaluator) for one in evaluator.every]
    for found, one in zip(sets, evaluator.every, strict=True):
        found.attempt(partial(_measure_both, evaluator=one, half=half))
    place = run_with(evaluator.live.model)
    attempt_each(sets, lambda one: one.report(place))
    return [one.result for one in sets]


def _measure_both(found: SetEvidence, evaluator: PointEvaluator, *, half: bool) -> None:
    """Measure the model before and after, and on the line from one to the other."""
    before, after = evaluator.at_model(0), evaluator.at_model(1)
    found.models += [(evaluator.names[0], "parent", before), (OUTPUT, "output", after)]
    require_finite(found.models)
    found.output = OutputLosses(found.study, found.evaluator.count, after)
    if half and (rows := _report_half(evaluator)) is not None:
        found.rows = rows
        found.models = [(name, role, losses.take(rows)) for name, role, losses in found.models]
    found.barriers, warnings = coarse_barriers(evaluator)
    found.warnings += [*evaluator.warnings, *warnings]


def _report_half(evaluator: PointEvaluator) -> Indices | None:
    """Examples of the report half; None where it has too few documents."""
    try:
        return evaluator.split.report
    except DataError:
        return None
