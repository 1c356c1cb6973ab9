"""A fine-tuning: of one model, or of several from one, ready to be averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mergekit_geo.checkpoints.origin import model_entry
from mergekit_geo.clock import clock_of
from mergekit_geo.commands._run import Findings, Work, carry_out
from mergekit_geo.commands._tune import tune, write_record
from mergekit_geo.commands.early import check_scores
from mergekit_geo.commands.result import Result
from mergekit_geo.config.data import EvalData, source_of
from mergekit_geo.outputs.output import Output
from mergekit_geo.processes import broadcast
from mergekit_geo.records.report import read_report
from mergekit_geo.records.training import MemberEntry, MembersMeasurements
from mergekit_geo.specs.merges import SoupSpec
from mergekit_geo.specs.spec import command_line, repeated
from mergekit_geo.specs.training import FinetuneSpec
from mergekit_geo.training.store import RECORD, TUNED, begin_training, names_of_members
from mergekit_geo.training.tuning import Tuning, make_tuning


def tune_models(asked: FinetuneSpec, output: Output) -> Findings:
    """Train one model, or several where members are asked for.

    Args:
        asked: The options.
        output: The folder, of the kind of one model or of so many members.

    Raises:
        GeoError: As `geo.finetune`.
    """
    tuning = make_tuning(asked)
    check_scores(tuning.measured, asked.output)
    if asked.members is None:
        return tune(tuning, output)
    return _tune_members(tuning, asked.members, output)


def _tune_members(tuning: Tuning, count: int, output: Output) -> Findings:
    """Train members one after another into a folder that appears when all are there."""
    asked, names = tuning.asked, names_of_members(count)
    begin_training(output, {**tuning.fingerprint(), "members": count}, resume=asked.resume)
    found = []
    for number, name in enumerate(names):
        with clock_of(asked.compute.budget).share(count - number):
            found.append(_member(tuning.with_seed(asked.seed + number), name, output))
    assert output.out is not None
    out = output.out
    placed = [replace(one, out=out / name) for one, name in zip(found, names, strict=True)]
    return _findings(tuning, placed, output)


def _member(tuning: Tuning, name: str, output: Output) -> Result:
    """Train a member, or take the one that an interrupted run finished."""
    assert output.out is not None
    place, shown, told = output.folder / name, output.out / name, tuning.asked.told
    if broadcast((place / RECORD).is_file()):  # it has appeared, so it is whole
        told.say(f"{name} is finished")
        return Result(read_report(place), place)
    told.say(f"{name}, seed {tuning.asked.seed}")
    asked = replace(tuning.asked, out=place, members=None, resume=True)
    return carry_out(
        Work(asked, lambda inner: tune(replace(tuning, asked=asked), inner, shown=shown), TUNED)
    )


def _findings(tuning: Tuning, members: Sequence[Result], output: Output) -> Findings:
    data = source_of(tuning.asked.data).spoken or EvalData()
    folders, first = [str(member.out) for member in members], members[0].report
    run = first.provenance
    return Findings(
        MembersMeasurements(
            members=[
                MemberEntry(
                    folder=folder, seed=tuning.asked.seed + i, measured=members[i].measurements
                )
                for i, folder in enumerate(folders)
            ],
            soup=command_line(SoupSpec(folders, f"{output.out}-soup", data=data)),
        ),
        [model_entry(tuning.base)],
        (run.device, run.dtype, run.attention) if run else (None, None, None),
        {"members": len(members)},
        first.data,
        warnings=[text for member in members for text in member.report.warnings],
        again=repeated(tuning.asked),
        fill=write_record,
        kept={"members": tuple(members)},
    )
