"""One model out of a saddle: moved, written, and measured before and after."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.derived import overlay
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.commands._run import Findings
from mergekit_geo.commands._tune import (
    before_and_after,
    compare,
    findings_of,
    finished,
    write_record,
    write_weights,
)
from mergekit_geo.commands.early import check_scores
from mergekit_geo.commands.merged import MergedState
from mergekit_geo.config.escape import SGD
from mergekit_geo.config.output import OutputConfig
from mergekit_geo.curvature.critical import TrainingLoss, require_memory
from mergekit_geo.curvature.escape_state import EscapeState
from mergekit_geo.curvature.escaping import Escaping
from mergekit_geo.curvature.line_search import HeldOut
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.errors import UnsupportedError
from mergekit_geo.evaluation.batches import Shuffled
from mergekit_geo.evaluation.losses import OUTPUT
from mergekit_geo.evaluation.objective import Objective, TaskObjective
from mergekit_geo.evaluation.weighted_sets import on_weighted_mean
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.stream import stream
from mergekit_geo.modules.open import at_least_single, open_module
from mergekit_geo.modules.stored import Stored
from mergekit_geo.outputs.kind import ESCAPED
from mergekit_geo.outputs.output import Output
from mergekit_geo.processes import main_process_first
from mergekit_geo.records.escape import EscapeEntry, EscapeMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.specs.training import EscapeSpec
from mergekit_geo.training.job import let_go
from mergekit_geo.training.tuning import Retraining, make_tuning

SINGLE = 4
"""Bytes of a float32."""

EscapeTuning = Retraining[EscapeSpec]


def escape_model(asked: EscapeSpec, output: Output) -> Findings:
    """Lead a model out of a saddle, into a folder that appears whole or not at all, or in memory.

    Raises:
        GeoError: As `geo.escape`.
    """
    tuning = make_tuning(asked)
    check_scores(tuning.measured, asked.output)
    refuse_half(tuning.base, asked.output)
    if output.out is None:
        return _found(tuning, output, *_moved(tuning, output))
    output.refuse_inputs([tuning.base])
    output.need(sum(info.nbytes + 3 * SINGLE * info.count for info in tuning.base.tensors.values()))
    fingerprint = tuning.fingerprint()
    output.begin(fingerprint)
    with output.writing():
        earlier = main_process_first(lambda: finished(tuning, output))
        if earlier is not None:
            return Findings(earlier=earlier)
        found = _found(tuning, output, *_moved(tuning, output))

    def fill(report: Report, folder: Path) -> None:
        write_record(report, folder, fingerprint, ESCAPED.mark)

    return replace(found, fill=fill)


def refuse_half(base: Checkpoint, config: OutputConfig) -> None:
    """Refuse weights, and an output, in half precision: small steps are lost in rounding there.

    Raises:
        UnsupportedError: A tensor has fewer than four bytes an element, or the output would have.
    """
    for name, info in base.tensors.items():
        if info.is_float and info.nbytes < SINGLE * info.count:
            raise UnsupportedError(
                f"expected weights in float32 or float64, found {name} in {info.dtype}: the steps "
                "out of a saddle are lost in rounding there",
                where=base.name,
                remedy=f"store it wider first: geo-merge soup {base.name} --dtype float32 -o DIR",
            )
    if config.dtype in {"bfloat16", "float16"}:
        raise UnsupportedError(
            f"expected an output in float32 or float64, found --dtype {config.dtype}: the steps "
            "out of a saddle are lost in rounding there",
            remedy="leave --dtype out; geo-merge soup OUT --dtype ... converts what came of it",
        )


def _moved(tuning: EscapeTuning, output: Output) -> tuple[EscapeEntry, dict[str, Tensor]]:
    """What was found, and the tensors that have changed, by stored name."""
    compute = replace(tuning.asked.compute, dtype="float32")
    module = at_least_single(open_module(tuning.base, compute))
    stored = Stored(module, tuning.base)
    escaping = _escaping(tuning, module, output)
    entry = escaping.run()
    if entry.after is None:
        return entry, {}
    return entry, stored.state(module.state_dict(), as_stored=tuning.asked.output.dtype is None)


def _escaping(tuning: EscapeTuning, module: Module, output: Output) -> Escaping:
    asked, settings = tuning.asked, tuning.asked.escaping
    sample, whole = _sampled(tuning.objective, settings.examples, asked.seed)
    mean = MeanLoss(module, sample.batches())
    require_memory(mean, settings.lanczos_steps)
    everything = None
    if settings.then == SGD:
        everything = Shuffled(tuning.objective, settings.batch_size, asked.seed)
    return Escaping(
        TrainingLoss(mean, sample, whole),
        settings,
        asked.seed,
        _held_out(tuning, module),
        everything,
        EscapeState(output.partial, fsync=asked.output.fsync),
        asked.told,
    )


def _sampled(objective: Objective, most: int, seed: int) -> tuple[Objective, bool]:
    """The examples that the training loss is of, and whether these are all."""
    if not isinstance(objective, TaskObjective) or not most or most >= len(objective.kept):
        return objective, True
    return objective.drawn(most, seed), False


def _held_out(tuning: EscapeTuning, module: Module) -> HeldOut | None:
    """What a step is checked on: of several sets their weighted mean, or else the first."""
    study = tuning.study()
    joint = (on_weighted_mean(study) if study.further else None) or study
    objective = joint.plan.objective
    return None if objective is None else HeldOut(objective, module, joint.seed)


def _found(
    tuning: EscapeTuning, output: Output, entry: EscapeEntry, state: dict[str, Tensor]
) -> Findings:
    """Write what was reached, and measure it."""
    let_go()
    kept: dict[str, Any] = {}
    if output.out is None:
        tuned = overlay(tuning.base, state, OUTPUT)
        kept["state"] = _whole(tuned, tuning.asked.output.stored_dtype)
    else:
        tuned = write_weights(tuning, state, output)
    if output.out is None or tuning.base.folder is None:
        whole = kept.get("state") or _whole(tuned, tuning.asked.output.stored_dtype)
        measured = compare(tuning, tuned, MergedState(tuned.config, whole), half=True)
    else:
        measured = compare(tuning, tuned, output.folder / tuning.base.inside, half=True)
    require_unchanged([tuning.base])
    record = EscapeMeasurements(escape=entry, **before_and_after(measured))
    return replace(findings_of(tuning, record, measured, tuning.asked.target), kept=kept)


def _whole(tuned: Checkpoint, dtype: Any) -> dict[str, Tensor]:
    """All tensors, in memory."""
    blend = Blend((tuned,), Linear((1.0,)), dtype)
    sink = MemorySink(blend)
    stream(blend, sink, allow_nonfinite=True)
    return sink.state
