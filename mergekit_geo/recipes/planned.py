"""Members that a recipe would train, read but not trained."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from mergekit_geo.commands._tune import needed_bytes
from mergekit_geo.config.data import EvalData
from mergekit_geo.config.measures import Compute
from mergekit_geo.data.load import is_on_hub, load_rows
from mergekit_geo.evaluation.batches import Shuffled
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.recipes.members import beside
from mergekit_geo.recipes.training import Orders, Ready, ready
from mergekit_geo.records.plan import PlannedMember

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.config.output import OutputConfig
    from mergekit_geo.recipes.members import RecipeMember
    from mergekit_geo.recipes.plan import Prepared


def planned_members(
    prepared: Prepared, out: Path | None, output: OutputConfig, how: EvalData
) -> list[PlannedMember]:
    """Estimate the training of members whose bases and data are here.

    Args:
        prepared: The recipe.
        out: Where the merge would be.
        output: How it would be written.
        how: How training data is read, where a member does not say.

    Raises:
        GeoError: A member could not be trained.
    """
    here = [member for member in prepared.members if _is_local(member, prepared, how)]
    orders = Orders(prepared.known, how, None, Compute(), output)
    place = TemporaryDirectory() if out is None else nullcontext(str(beside(out)))
    with place as folder:
        read = {one.member.name: one for one in ready(here, Path(folder), orders)}
    return [_planned(m, prepared, read.get(m.name), out, how) for m in prepared.members]


def _is_local(member: RecipeMember, prepared: Prepared, how: EvalData) -> bool:
    """Whether base and data can be read without a download."""
    data = member.entry.data(how)
    if is_on_hub(data):
        return False
    if not _base(prepared, member).is_local:
        load_rows(data)  # the file can be checked at least
        return False
    return True


def _base(prepared: Prepared, member: RecipeMember) -> Checkpoint:
    """What stands below a member that is not trained yet."""
    found = prepared.bases[member.name].of
    assert found is not None
    return found


def _planned(
    member: RecipeMember, prepared: Prepared, one: Ready | None, out: Path | None, how: EvalData
) -> PlannedMember:
    entry = member.entry
    examples, steps = _length(one) if one else (None, entry.steps)
    finished = one is not None and one.finished
    return PlannedMember(
        name=member.name,
        folder=None if out is None else str(beside(out) / member.name),
        model=entry.model,
        train_data=entry.train_data,
        seed=(how.seed if entry.seed is None else entry.seed) + member.offset,
        rho=entry.rho,
        examples=examples,
        steps=steps,
        state="trained" if finished else "unfinished" if one and one.resumes else "to be trained",
        disk=0 if finished else needed_bytes(prepared.bases[member.name]),
    )


def _length(one: Ready) -> tuple[int | None, int]:
    """Examples, and steps of the optimizer."""
    training, objective = one.tuning.asked.training, one.tuning.objective
    batches = Shuffled(objective, training.batch_size, one.tuning.asked.seed)
    examples = len(objective.kept) if isinstance(objective, TaskObjective) else None
    return examples, training.steps_of(batches.count, 1)
