"""Members that are trained first: read, then trained, or taken up where an earlier run did it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.checkpoints.sources import pinned
from mergekit_geo.commands._run import Work, carry_out
from mergekit_geo.commands._tune import overlap_warnings, tune
from mergekit_geo.errors import GeoError, OutputError, OutputExistsError
from mergekit_geo.evaluation.plan import LossPlan
from mergekit_geo.outputs.output import holds_work
from mergekit_geo.outputs.place import check_output, partial_of, unfinished
from mergekit_geo.recipes.members import RecipeMember
from mergekit_geo.records.report import Report, read_report
from mergekit_geo.specs.training import FinetuneSpec
from mergekit_geo.training.store import RECORD, TUNED, changes, differences
from mergekit_geo.training.tuning import Tuning, make_tuning

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.config.data import Data, EvalData
    from mergekit_geo.config.measures import Compute
    from mergekit_geo.config.output import OutputConfig
    from mergekit_geo.progress import Progress
    from mergekit_geo.records.training import FinetuneMeasurements

ELSEWHERE = "it is measured as a parent of the merge that it was trained for"
ANEW = "--overwrite trains it anew; a folder named under models is taken as it is"


@dataclass(frozen=True)
class Orders:
    """Settings that all members of a recipe share.

    Attributes:
        known: What names in the recipe stand for, where not folders or Hub ids.
        read_as: How training data is read, where a member does not say.
        data: Held-out data, which they are not to be trained on.
        compute: How models are run.
        output: How members are written.
    """

    known: Mapping[str, Model]
    read_as: EvalData
    data: Data
    compute: Compute
    output: OutputConfig


@dataclass(frozen=True)
class Ready:
    """A member whose base and training data are read.

    Attributes:
        member: As the recipe names it.
        tuning: What it is trained on, and how.
        place: Its folder.
        finished: Whether an earlier run has trained just this.
        resumes: Whether an unfinished run of just this is gone on with.
        warnings: What was found of its data.
    """

    member: RecipeMember
    tuning: Tuning
    place: Path
    finished: bool
    resumes: bool
    warnings: tuple[str, ...]


def ready(members: Sequence[RecipeMember], folder: Path, orders: Orders) -> list[Ready]:
    """Read all that training needs, before anything is trained.

    Raises:
        GeoError: A base or data that is missing or unusable, and whose it is.
        OutputExistsError: Another model, or an unfinished run of one, is in its place.
    """
    first: dict[int, Tuning] = {}
    found = []
    for member in members:
        try:
            if member.position not in first:
                first[member.position] = _tuning(member, orders)
            found.append(_ready(member, first[member.position], folder, orders.output))
        except OutputError:
            raise
        except GeoError as error:
            error.where = ": ".join(filter(None, ["finetune", member.entry.name, error.where]))
            raise
    return found


def _tuning(member: RecipeMember, orders: Orders) -> Tuning:
    entry = member.entry
    return make_tuning(
        FinetuneSpec(
            orders.known.get(entry.model, entry.model), member.name, sam=entry.sam(),
            training=entry.training(),
            seed=orders.read_as.seed if entry.seed is None else entry.seed,
            output=replace(orders.output.local, dtype=None), train_data=entry.data(orders.read_as),
            data=orders.data, compute=orders.compute, sharpness="off",
        )
    )  # fmt: skip


def _ready(member: RecipeMember, first: Tuning, folder: Path, output: OutputConfig) -> Ready:
    warnings = tuple(f"{member.name}: {text}" for text in overlap_warnings(first))
    asked = replace(first.asked, data=None, seed=first.asked.seed + member.offset)
    nowhere = replace(first.measured, plan=LossPlan(reason=ELSEWHERE), data=None, further=())
    tuning = replace(first, asked=asked, measured=nowhere)
    place = folder / member.name
    finished = _is_finished(place, tuning, overwrite=output.overwrite)
    resumes = not finished and _resumes(place, tuning, overwrite=output.overwrite)
    return Ready(member, tuning, place, finished, resumes, warnings)


def _is_finished(place: Path, tuning: Tuning, *, overwrite: bool) -> bool:
    """Whether this member has been trained there."""
    if not (place / RECORD).is_file():
        inputs = [tuning.base.folder] if tuning.base.folder is not None else []
        check_output(place, inputs, kind=TUNED)
        return False
    found = differences(place, tuning.fingerprint())
    if found and not overwrite:
        raise OutputExistsError(
            f"a member that was trained otherwise is there: {'; '.join(found[:3])}",
            where=str(place),
            remedy=ANEW,
        )
    return not found


def _resumes(place: Path, tuning: Tuning, *, overwrite: bool) -> bool:
    """Whether an unfinished training there is this member's."""
    if not holds_work(partial_of(place), TUNED):
        return False
    found = changes(unfinished(place) or {}, tuning.fingerprint())
    if found and not overwrite:
        raise OutputExistsError(
            f"an unfinished training of another member is there: {'; '.join(found[:3])}",
            where=str(partial_of(place)),
            remedy=ANEW,
        )
    return not found


@dataclass(frozen=True)
class TrainedMembers:
    """The members of a recipe after training, or found already trained.

    Attributes:
        checkpoints: By the names that the recipe calls them.
        entries: What the report says of each.
        bases: What they were trained from, as the recipe says it, with the commit.
        warnings: Of their training.
    """

    checkpoints: Mapping[str, Checkpoint]
    entries: list[dict[str, Any]]
    bases: Mapping[str, str]
    warnings: tuple[str, ...]


def train(orders: Sequence[Ready], progress: Progress, *, kept: bool) -> TrainedMembers:
    """Train the members that are not trained yet.

    Args:
        orders: The members.
        progress: Told what is going on.
        kept: Whether their folders stay, and are named in the report.

    Raises:
        GeoError: As `geo.finetune`; finished members stay where they are.
    """
    reports = {one.member.name: _report(one, progress) for one in orders}
    found = [(one, reports[one.member.name]) for one in orders]
    said = [f"{one.member.name}: {text}" for one, report in found for text in report.warnings]
    return TrainedMembers(
        {m.member.name: open_folder(m.place, None if kept else m.member.name) for m in orders},
        [_entry(one, report, kept=kept) for one, report in found],
        {m.member.entry.model: pinned(m.tuning.base) for m in orders if m.tuning.base.revision},
        tuple(dict.fromkeys([*(text for one in orders for text in one.warnings), *said])),
    )


def _report(one: Ready, progress: Progress) -> Report:
    if one.finished:
        progress.say(f"{one.member.name} is trained already: {one.place}")
        return read_report(one.place)
    progress.say(f"training {one.member.name}, seed {one.tuning.asked.seed}")
    asked = replace(one.tuning.asked, out=one.place, resume=one.resumes, progress=progress)
    tuning = replace(one.tuning, asked=asked)
    return carry_out(Work(asked, lambda output: tune(tuning, output), TUNED)).report


def _entry(one: Ready, report: Report, *, kept: bool) -> dict[str, Any]:
    measured: Any = report.result
    training: FinetuneMeasurements = measured
    return {
        "name": one.member.name,
        "folder": str(one.place) if kept else None,
        "model": pinned(one.tuning.base),
        "train_data": one.member.entry.train_data,
        "seed": one.tuning.asked.seed,
        **training.training.model_dump(exclude={"history"}),
    }
