"""What a merge writes into its folder, or makes in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.content import EXAMPLES, model_key
from mergekit_geo.checkpoints.module_folders import weight_folders
from mergekit_geo.checkpoints.origin import model_entry, versions
from mergekit_geo.checkpoints.side_files import TOKENIZER, copy_tokenizer, side_files_of
from mergekit_geo.checkpoints.sources import original, side_files_from
from mergekit_geo.checkpoints.unchanged import require_unchanged, unchanged
from mergekit_geo.commands._run import Findings
from mergekit_geo.commands.draft import Draft
from mergekit_geo.config.output import DTYPES, parse_size
from mergekit_geo.errors import AntipodalError, ChangedError, NonFiniteError
from mergekit_geo.evaluation.study import NO_STATISTICS
from mergekit_geo.merging.blend import Blend, has_statistics
from mergekit_geo.merging.disk import write_blend
from mergekit_geo.merging.modules import merged_modules
from mergekit_geo.merging.native import kernel_for
from mergekit_geo.merging.stream import stream
from mergekit_geo.outputs.kind import MARK
from mergekit_geo.outputs.output import Output
from mergekit_geo.outputs.row_file import write_lines
from mergekit_geo.outputs.side_files import copy_side_files, write_config
from mergekit_geo.outputs.writer import save_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from mergekit_geo.evaluation.plan import LossReport
    from mergekit_geo.merging.tensor_record import TensorRecord
    from mergekit_geo.records.report import Report


def in_memory(draft: Draft) -> Findings:
    """Merge in memory, and measure what came of it.

    Args:
        draft: What is merged.
    """
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
    return weight_bytes(blend) + sum(path.stat().st_size for path in beside)


def weight_bytes(blend: Blend) -> int:
    """Bytes that the weights of a merge take."""
    return sum(info.nbytes for info in blend.outputs().values())


def on_disk(draft: Draft, output: Output) -> Findings:
    """Merge into a folder, and measure what came of it.

    Args:
        draft: What is merged.
        output: Where it goes.

    Raises:
        GeoError: With the reason and the remedy; nothing is half-written.
    """
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
