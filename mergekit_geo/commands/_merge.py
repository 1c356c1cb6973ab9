"""What all merges share: preflight, the point that is taken, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.left_out import left_out, left_out_warning, link_warnings
from mergekit_geo.checkpoints.module_folders import weight_folders
from mergekit_geo.checkpoints.origin import count_parameters
from mergekit_geo.commands._run import Findings
from mergekit_geo.commands._write import in_memory, on_disk, weight_bytes
from mergekit_geo.commands.draft import Draft
from mergekit_geo.commands.early import check_early, check_scores, check_statistics_data
from mergekit_geo.commands.request import Request
from mergekit_geo.config.selection import measurements
from mergekit_geo.errors import ArgumentError, UnsupportedError
from mergekit_geo.evaluation.study import Study
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.native import kernel_for
from mergekit_geo.merging.whole import check_memory
from mergekit_geo.outputs.output import Output
from mergekit_geo.processes import world

if TYPE_CHECKING:
    from mergekit_geo.evaluation.points import PointEvaluator
    from mergekit_geo.selection.selector import Selected

STRAIGHT = ("linear", "slerp")
"""Kinds of path along which every point is a mean of the models."""


def merge(checkpoints: Sequence[Checkpoint], request: Request, output: Output) -> Findings:
    """Merge checkpoints into a folder, or in memory, and measure what came of it.

    Args:
        checkpoints: The models.
        request: What is asked for.
        output: As it was opened, before any path is fitted and any member trained.

    Raises:
        GeoError: With the reason and the remedy; nothing is half-written.
    """
    study = study_of(checkpoints, request, output)
    with study.clock.running():
        count = len(study.anchors)
        further = measurements(count, request.selector.segments(count))
        dtype = request.asked.output.stored_dtype
        selection, evaluator = request.selector.select(study, dtype, further=further)
    return merge_at(selection, evaluator, study, request, output)


def study_of(checkpoints: Sequence[Checkpoint], request: Request, output: Output) -> Study:
    """What a merge is measured on, after all is refused that headers and settings show.

    Args:
        checkpoints: The models.
        request: What is asked for.
        output: Where there has to be room.

    Raises:
        GeoError: With the reason and the remedy.
    """
    require_one_process()
    kernel_for(request.asked.output.device)  # refuses a device before any work
    progress = request.asked.told
    by_layers = request.stack is not None
    config = request.selector.config
    found = check_early(checkpoints, request.asked, config, by_layers=by_layers)
    _refuse_modules_without_a_rule(checkpoints[0], request)
    study = Study.of(checkpoints, found, request.asked, apart=by_layers)
    if request.selector.config.by_loss(len(checkpoints)):
        study.require_measurable()
    check_statistics_data(study)
    check_scores(study, request.asked.output)
    progress.say(_sizes(checkpoints))
    for note in request.notes:
        progress.say(note)
    first, dtype = tuple(found.anchors), request.asked.output.stored_dtype
    before = None if request.stack is None else request.stack.of(first, dtype)
    chosen = request.selector
    blend = (
        before.blend if before else Blend(first, chosen.rule, dtype, chosen.rules, chosen.takers)
    )
    output.need(weight_bytes(blend))
    if need := check_memory(blend, request.asked.output.device):
        progress.say(str(need))
    return study


def merge_at(
    selection: Selected,
    evaluator: PointEvaluator | None,
    study: Study,
    request: Request,
    output: Output,
) -> Findings:
    """Merge and measure the point that was chosen.

    Args:
        selection: The point.
        evaluator: Where it was measured, if it was; its module is released.
        study: The models, and what loss is measured on.
        request: What is asked for.
        output: Where the merge goes.

    Raises:
        GeoError: With the reason and the remedy; nothing is half-written.
    """
    found, anchors, dtype = study.checked, study.anchors, request.asked.output.stored_dtype
    stack = None if request.stack is None else request.stack.of(anchors, dtype)
    blend = selection.point.blend(anchors, dtype) if stack is None else stack.blend
    beside = [] if output.out is None else left_out(anchors[0])
    links = [] if output.out is None else [text for one in anchors for text in link_warnings(one)]
    lost = [*links, *left_out_warning((anchors[0].within or anchors[0]).name, beside)]
    warnings = [
        *request.warnings,
        *found.warnings,
        *lost,
        *(stack.warnings if stack else ()),
        *selection.warnings,
    ]
    notes = [*request.notes, *found.notes, *(stack.notes if stack else ())]
    draft = Draft(request, study, blend, warnings, notes, selection, evaluator, beside, stack)
    return in_memory(draft) if output.out is None else on_disk(draft, output)


def _refuse_modules_without_a_rule(donor: Checkpoint, request: Request) -> None:
    """Refuse what gives a model's tensors and not those of the modules that stand after it.

    Raises:
        UnsupportedError: A module has weights, and the output is a point of a fitted path, its
            layers are of unlike models, or a part of it alone is merged.
    """
    along, selector = request.selector.config.along, request.selector
    reasons = {
        "a fitted path leads between models without their modules": (
            request.asked.command == "point" or (along is not None and along not in STRAIGHT)
        ),
        "slices take layers of models, and do not say whose modules": (
            request.stack is not None or bool(selector.takers)
        ),
        "a part of a model is none of the modules after it": request.fitting.part is not None,
    }
    why = next((why for why, holds in reasons.items() if holds), None)
    if why and (folders := weight_folders(donor.root, donor.inside)):
        raise UnsupportedError(
            f"{why}, and {folders[0]} has weights",
            where=donor.name,
            remedy="merge whole models by soup or slerp",
        )


def _sizes(checkpoints: Sequence[Checkpoint]) -> str:
    """How many models, and the parameters of each."""
    counts = [f"{count_parameters(checkpoint):,}" for checkpoint in checkpoints]
    if len(counts) == 1:
        return f"1 model, {counts[0]} parameters"
    if len(set(counts)) == 1:
        return f"{len(counts)} models, {counts[0]} parameters each"
    return f"{len(counts)} models of {', '.join(counts[:-1])} and {counts[-1]} parameters"


def require_one_process() -> None:
    """Refuse to merge in several processes at once.

    Raises:
        ArgumentError: There are several.
    """
    if world()[1] > 1:
        raise ArgumentError(
            "a merge is made by one process", remedy="run it without torchrun or accelerate launch"
        )
