"""What soup and slerp share: preflight, stream, measure, report, publish."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.content import EXAMPLES, model_key
from mergekit_geo.checkpoints.left_out import left_out, left_out_warning, link_warnings
from mergekit_geo.checkpoints.module_folders import weight_folders
from mergekit_geo.checkpoints.origin import count_parameters, model_entry, versions
from mergekit_geo.checkpoints.side_files import TOKENIZER, copy_tokenizer, side_files_of
from mergekit_geo.checkpoints.sources import original, side_files_from
from mergekit_geo.checkpoints.unchanged import require_unchanged, unchanged
from mergekit_geo.commands._run import Findings
from mergekit_geo.commands.draft import Draft
from mergekit_geo.commands.early import check_early, check_scores, check_statistics_data
from mergekit_geo.commands.request import Request
from mergekit_geo.config.output import DTYPES, parse_size
from mergekit_geo.config.selection import measurements
from mergekit_geo.errors import (
    AntipodalError,
    ArgumentError,
    ChangedError,
    NonFiniteError,
    UnsupportedError,
)
from mergekit_geo.evaluation.study import NO_STATISTICS, Study
from mergekit_geo.merging.blend import Blend, has_statistics
from mergekit_geo.merging.disk import write_blend
from mergekit_geo.merging.modules import merged_modules
from mergekit_geo.merging.native import kernel_for
from mergekit_geo.merging.stream import stream
from mergekit_geo.merging.whole import check_memory
from mergekit_geo.outputs.kind import MARK
from mergekit_geo.outputs.output import Output
from mergekit_geo.outputs.row_file import write_lines
from mergekit_geo.outputs.side_files import copy_side_files, write_config
from mergekit_geo.outputs.writer import save_tensors
from mergekit_geo.processes import world

if TYPE_CHECKING:
    from torch import Tensor

    from mergekit_geo.evaluation.plan import LossReport
    from mergekit_geo.evaluation.points import PointEvaluator
    from mergekit_geo.merging.tensor_record import TensorRecord
    from mergekit_geo.records.report import Report
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
    output.need(_weight_bytes(blend))
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
    return _in_memory(draft) if output.out is None else _on_disk(draft, output)


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


def _in_memory(draft: Draft) -> Findings:
    from mergekit_geo.merging.memory import MemorySink  # loads torch

    output, progress = draft.request.asked.output, draft.study.progress
    sink = MemorySink(draft.blend)
    progress.phase("merging", draft.blend.work())
    records = stream(
        draft.blend,
        sink,
        kernel=kernel_for(output.device),
        allow_nonfinite=output.allow_nonfinite,
        advance=progress.advance,
    )
    donor = draft.blend.donor
    _renew_statistics(draft, sink.state)
    found = draft.measure((donor.config, sink.state))
    require_unchanged(draft.blend.anchors)
    tied = {alias: sink.state[name] for alias, name in donor.ties.items()}
    modules = merged_modules(
        draft.blend, kernel=kernel_for(output.device), allow_nonfinite=output.allow_nonfinite
    )
    kept = {
        "state": {**sink.state, **tied},
        "modules": {module.file.as_posix(): module.state for module in modules},
    }
    return replace(draft.findings(records, found, None), kept=kept)


def _output_bytes(blend: Blend) -> int:
    source = original(blend.donor)
    folder = source.root
    beside = [folder / file for file in side_files_of(folder)] if folder else []
    if folder is not None:
        inside = (folder / place for place in weight_folders(folder, source.inside))
        beside += [path for place in inside for path in place.glob("*.safetensors")]
    return _weight_bytes(blend) + sum(path.stat().st_size for path in beside)


def _weight_bytes(blend: Blend) -> int:
    return sum(info.nbytes for info in blend.outputs().values())


def _on_disk(draft: Draft, output: Output) -> Findings:
    output.need(_output_bytes(draft.blend), at_once=False)
    output.begin(_fingerprint(draft))
    _tell_of_earlier_run(draft, output)
    try:
        with output.writing(), unchanged(draft.blend.anchors):
            records = _write_weights(draft, output)
            modules = _complete(draft, output.folder)
            found = draft.measure(output.folder / draft.blend.donor.inside)
    except (AntipodalError, NonFiniteError, ChangedError):  # no other run could use what is there
        output.discard()
        raise

    def fill(report: Report, folder: Path) -> None:
        done = _recipe(draft, report.settings, records, modules)
        (folder / MARK).write_text(done, "utf-8")
        write_examples(found.losses, folder)

    def keep(folder: Path) -> None:
        if found.losses.output:
            from mergekit_geo.evaluation.model_losses import keep_losses  # torch is loaded by now

            keep_losses(found.losses.output, folder / draft.blend.donor.inside)

    return replace(draft.findings(records, found, output.out), fill=fill, published=keep)


def write_examples(losses: LossReport, folder: Path) -> None:
    """Write the examples that changed beside the report, where losses were measured."""
    rows = [row for one in losses.changed for row in one.rows]
    if losses.changed:
        write_lines(folder / EXAMPLES, rows)


def _write_weights(draft: Draft, output: Output) -> dict[str, TensorRecord]:
    config, progress = draft.request.asked.output, draft.study.progress
    progress.phase("merging", draft.blend.work())
    return write_blend(
        draft.blend,
        output,
        parse_size(config.max_shard_size),
        kernel=kernel_for(config.device),
        allow_nonfinite=config.allow_nonfinite,
        advance=progress.advance,
    )


def _complete(draft: Draft, folder: Path) -> dict[str, dict[str, TensorRecord]]:
    """Write all that stands beside the weights; returns what was done to those of modules."""
    modules = write_side_files(
        draft.blend, folder, allow_nonfinite=draft.request.asked.output.allow_nonfinite
    )
    _write_asked_for(draft, folder)
    _renew_statistics(draft, folder / draft.blend.donor.inside)
    return modules


def _fingerprint(draft: Draft) -> list[Any]:
    """A JSON value of all that the merged bytes depend on."""
    output, blend = draft.request.asked.output, draft.blend
    anchors = [model_key(anchor) for anchor in blend.anchors]
    numbers = [output.dtype, output.max_shard_size, output.allow_nonfinite, output.device]
    rules = [
        repr(blend.rule),
        *(repr(sorted(each.items())) for each in (blend.rules, blend.takers)),
    ]
    return [versions(), rules, numbers, anchors]


def _tell_of_earlier_run(draft: Draft, output: Output) -> None:
    if output.restarted:
        draft.warnings.append(
            f"{output.folder} held unfinished work of another recipe or of inputs that have "
            "changed since: started over"
        )
    elif output.finished:
        draft.notes.append(f"resumed: {len(output.finished)} tensors were written already")


def write_side_files(
    blend: Blend, folder: Path, *, allow_nonfinite: bool
) -> dict[str, dict[str, TensorRecord]]:
    """Write the donor's configuration and tokenizer, byte for byte except for a changed dtype.

    The weights of modules that stand after the model are merged as it is.

    Returns:
        What was done to these, by file and name.
    """
    dtype = next((name for name, stored in DTYPES.items() if stored == blend.dtype), None)
    if blend.donor.root is not None:
        own = blend.donor.config if blend.donor.reshaped else None
        copy_side_files(blend.donor.root, folder, dtype, own, blend.donor.inside)
    elif blend.donor.config:
        write_config(folder, blend.donor.config, dtype)
    records = {}
    for module in merged_modules(blend, allow_nonfinite=allow_nonfinite):
        (folder / module.file).parent.mkdir(parents=True, exist_ok=True)
        save_tensors(module.state, folder / module.file, {"format": "pt"})
        records[module.file.as_posix()] = module.records
    return records


def _write_asked_for(draft: Draft, folder: Path) -> None:
    """Write the tokenizer that an adapter brings, and the command's own files."""
    request, parents = draft.request, draft.parents
    source = side_files_from(parents)
    if source is not parents[0] and source.folder is not None:
        copy_tokenizer(source.folder, folder / parents[0].inside)
    for name, text in request.files.items():
        place = parents[0].inside if name in TOKENIZER else ""
        (folder / place / name).write_text(text, "utf-8")


def _renew_statistics(draft: Draft, made: Path | dict[str, Tensor]) -> None:
    """Estimate BatchNorm statistics anew, in a folder or a state, where there are data for them."""
    if _wants_statistics(draft):
        from mergekit_geo.evaluation.batch_norm import refresh_state, rewrite_statistics

        train_data, compute = draft.study.statistics_data, draft.study.compute
        assert train_data is not None
        if isinstance(made, Path):
            count = rewrite_statistics(made, train_data, compute)
        else:
            count = refresh_state(draft.blend.donor, made, train_data, compute)
        draft.notes.append(f"BatchNorm statistics were estimated anew on {count} batches")


def _wants_statistics(draft: Draft) -> bool:
    """Whether there are running statistics, and something to estimate them on."""
    if not has_statistics(draft.blend.donor.tensors):
        return False
    if draft.study.statistics_data is None or draft.blend.donor.folder is None:
        draft.warnings.append(NO_STATISTICS)
        return False
    return True


def _as_recorded(record: TensorRecord) -> dict[str, Any]:
    """What was done to a tensor: how many elements were kept, how exactly it was solved."""
    done = {"branch": record.branch, "coefficients": record.coefficients}
    further = {"kept": record.kept or None, "error": record.error}
    return {**done, **{key: value for key, value in further.items() if value is not None}}


def _recipe(
    draft: Draft,
    settings: Mapping[str, Any],
    records: dict[str, TensorRecord],
    modules: dict[str, dict[str, TensorRecord]],
) -> str:
    """Text of `merge.json`."""
    recipe: dict[str, Any] = {
        "method": (draft.blend if draft.stack else draft.selection.point).rule.name,
        "settings": settings,
        "models": [model_entry(anchor).model_dump() for anchor in draft.blend.anchors],
        "versions": versions(),
        "tensors": {name: _as_recorded(record) for name, record in records.items()},
    }
    if draft.stack:
        names = [parent.name for parent in draft.parents]
        recipe["layers"] = [entry.model_dump() for entry in draft.stack.entries(names)]
    if modules:
        recipe["modules"] = {
            file: {name: _as_recorded(record) for name, record in of_module.items()}
            for file, of_module in modules.items()
        }
    return json.dumps(recipe, indent=1) + "\n"
