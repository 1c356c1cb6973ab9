"""Several models fine-tuned from one, ready to be averaged."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.origin import model_entry, provenance
from mergekit_geo.clock import clock_of
from mergekit_geo.commands.finetune import tune, write_record
from mergekit_geo.commands.result import Result
from mergekit_geo.config.data import EvalData, source_of
from mergekit_geo.limits import check_count
from mergekit_geo.outputs.kind import Kind
from mergekit_geo.outputs.output import Output
from mergekit_geo.outputs.place import traces_of
from mergekit_geo.processes import broadcast
from mergekit_geo.progress import Progress
from mergekit_geo.records.report import Report
from mergekit_geo.records.training import MemberEntry, MembersMeasurements
from mergekit_geo.specs.merges import SoupSpec
from mergekit_geo.specs.spec import command_line
from mergekit_geo.training.store import RECORD, TUNED, begin_training

if TYPE_CHECKING:
    from mergekit_geo.training.tuning import Tuning


def tune_members(
    tuning: Tuning, count: int, output: Output, progress: Progress, *, resume: bool
) -> Result:
    """Train members one after another into a folder that appears when all are there.

    Args:
        tuning: That of the first; the others have the seeds after its.
        count: Of the members.
        output: The folder, of the kind of so many members.
        progress: Told what is going on.
        resume: Go on with an unfinished run: finished members stay.

    Raises:
        ArgumentError: Less than two members.
        GeoError: As `geo.finetune`.
    """
    check_count("members", count, 2)
    began = time.time()
    assert output.out is not None
    out, seeds = output.out, [tuning.asked.seed + i for i in range(count)]
    begin_training(output, {**tuning.fingerprint(), "members": count}, resume=resume)
    found = []
    for number, (seed, name) in enumerate(zip(seeds, names(count), strict=True)):
        with clock_of(tuning.asked.compute.budget).share(count - number):
            found.append(_member(tuning.with_seed(seed), name, output, progress))
    report = _report(tuning, found, seeds, out, began)
    output.publish(report, lambda folder: write_record(report, folder))
    placed = tuple(
        replace(one, out=out / name) for one, name in zip(found, names(count), strict=True)
    )
    return Result(report, out, members=placed)


def names(count: int) -> list[str]:
    """The folders of members, in that of all."""
    return [f"member-{i}" for i in range(count)]


def kind_of_members(count: int) -> Kind:
    """The kind of output that so many members are: the next run goes on with what is there."""
    left = (trace.name for name in names(count) for trace in traces_of(Path(name)))
    return replace(TUNED, work=(*names(count), *left), scratch=())


def _member(tuning: Tuning, name: str, output: Output, progress: Progress) -> Result:
    """Train a member, or take the one that an interrupted run finished."""
    assert output.out is not None
    place = output.folder / name
    if broadcast((place / RECORD).is_file()):  # it has appeared, so it is whole
        progress.say(f"{name} is finished")
        text = (place / "report.json").read_bytes()
        return Result(Report.model_validate_json(text), place)
    progress.say(f"{name}, seed {tuning.asked.seed}")
    with Output.of(place, TUNED, tuning.asked.output) as inner:
        return tune(tuning, inner, progress, resume=True, shown=output.out / name)


def _report(
    tuning: Tuning, found: list[Result], seeds: list[int], out: Path, began: float
) -> Report:
    folders = [str(out / f"member-{i}") for i in range(len(found))]
    data = source_of(tuning.asked.data).as_settings or EvalData()
    first = found[0].report
    return Report(
        command="finetune",
        output=str(out),
        models=[model_entry(tuning.base)],
        settings={**tuning.asked.settings(), "members": len(found)},
        data=first.data,
        result=MembersMeasurements(
            members=[
                MemberEntry(folder=folder, seed=seed, measured=one.measurements)
                for folder, seed, one in zip(folders, seeds, found, strict=True)
            ],
            soup=command_line(SoupSpec(folders, f"{out}-soup", data=data)),
        ),
        warnings=list(dict.fromkeys(text for one in found for text in one.report.warnings)),
        provenance=first.provenance and provenance(
            began, first.provenance.device, first.provenance.dtype, first.provenance.attention
        ),
    )  # fmt: skip
