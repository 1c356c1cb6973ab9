"""Checkpoints of trainings: patterns spelt out, and each run in the order of its steps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.module_folders import SAFE
from mergekit_geo.checkpoints.reference import several
from mergekit_geo.errors import ArgumentError, NotFoundError
from mergekit_geo.files.local_path import local_path

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model

NUMBERED = re.compile(rf"^(?P<stem>.*?)(?P<step>\d+)(?:{re.escape(SAFE)})?/*$", re.DOTALL)
FEWEST = 2
"""Checkpoints whose names differ by a number alone that make a run."""
SHOWN = 5
"""Names that an error lists."""

Named = tuple[str, int] | None
"""A name without its number, and the number: the step."""


@dataclass(frozen=True)
class Run:
    """A training.

    Attributes:
        name: The folder of its checkpoints, or what their names have in common.
        models: Its checkpoints' numbers among all models, in the order of training.
        steps: Of each; None where its name has none.
    """

    name: str
    models: tuple[int, ...]
    steps: tuple[int | None, ...]


def step_of(name: str) -> Named:
    """The number that a checkpoint's name ends in, and what stands before it; None without one.

    Example:
        >>> step_of("run/checkpoint-500"), step_of("org/name@step64"), step_of("run/final")
        (('run/checkpoint-', 500), ('org/name@step', 64), None)
    """
    found = NUMBERED.match(name)
    return (found["stem"], int(found["step"])) if found else None


def checkpoints_of(models: Model | Sequence[Model]) -> tuple[list[Model], tuple[Run, ...]]:
    """The models that names and patterns stand for, in order, and the runs that they are of.

    Checkpoints whose names differ by a number alone are a run, in the order of the number. What
    stands before them without being of a run, such as the base, is where all runs start; what
    stands after them is where its run ends.

    Args:
        models: Folders, files, Hub ids, patterns of paths, or models in memory.

    Raises:
        NotFoundError: Nothing matches a pattern.
        ArgumentError: Of several runs it cannot be told which one a model is of.
    """
    every = [found for model in several(models, "follow") for found in _spelt_out(model)]
    named = [step_of(str(one)) if isinstance(one, str | Path) else None for one in every]
    counts = Counter(one[0] for one in named if one)
    own = [one if one and counts[one[0]] >= FEWEST else None for one in named]
    stems = list(dict.fromkeys(one[0] for one in own if one))
    if not stems:
        return every, (Run("", tuple(range(len(every))), (None,) * len(every)),)
    order, runs = _runs(every, own, stems)
    return [every[i] for i in order], tuple(_renumbered(run, order) for run in runs)


def _spelt_out(model: Model) -> list[Model]:
    """The paths that match a pattern; a model that is none as it is."""
    if not isinstance(model, str | Path) or not has_magic(str(model)):
        return [model]
    path = local_path(model)
    if path.exists():
        return [model]
    start = Path(path.anchor or ".")
    matched = sorted(start.glob(str(path.relative_to(path.anchor))))
    found = [one for one in matched if one.suffix == SAFE or one.is_dir()]
    if not found:
        raise NotFoundError(
            f"no folder and no {SAFE} file matches this pattern", where=str(model),
            remedy=_held(path.parent),
        )  # fmt: skip
    return [str(one) for one in found]


def _held(folder: Path) -> str:
    """What there is in place of what was looked for."""
    if has_magic(str(folder)):
        return _held(folder.parent)
    if not folder.is_dir():
        return f"there is no folder {folder}"
    names = sorted(path.name for path in folder.iterdir())
    more = ", ..." if len(names) > SHOWN else ""
    return f"{folder} holds {', '.join(names[:SHOWN]) or 'nothing'}{more}"


def _runs(
    models: Sequence[Model], own: Sequence[Named], stems: Sequence[str]
) -> tuple[list[int], list[Run]]:
    """The order of models by their run, and the runs by the models' numbers as they were named."""
    first = next(i for i, one in enumerate(own) if one)
    starts = tuple(range(first))
    ends: dict[str, list[int]] = {stem: [] for stem in stems}
    for i in range(first, len(models)):
        if own[i] is None:
            ends[_run_of(str(models[i]), stems)].append(i)
    runs = []
    for stem in stems:
        steps = {i: one[1] for i, one in enumerate(own) if one and one[0] == stem}
        members = (*starts, *sorted(steps, key=steps.__getitem__), *ends[stem])
        runs.append(Run(_title(stem), members, tuple(steps.get(i) for i in members)))
    return [*starts, *(i for run in runs for i in run.models if i >= first)], runs


def _run_of(name: str, stems: Sequence[str]) -> str:
    """The run at whose end a model stands: the only one, or the one whose folder it is or is in."""
    if len(stems) == 1:
        return stems[0]
    for stem in stems:
        folder = _title(stem)
        if name.rstrip("/") == folder or str(Path(name).parent) == folder:
            return stem
    raise ArgumentError(
        f"of several runs, {', '.join(map(_title, stems))}, it cannot be told which one this is of",
        where=name,
        remedy="name it before the checkpoints if all runs start there, or by --mark",
    )


def _title(stem: str) -> str:
    """The folder of a run's checkpoints; without one, what their names begin with."""
    folder, slash, _ = stem.rpartition("/")
    return folder if slash else stem.rstrip("-_@. ") or "run"


def _renumbered(run: Run, order: Sequence[int]) -> Run:
    return Run(run.name, tuple(order.index(i) for i in run.models), run.steps)


def refuse_models(models: Model | Sequence[Model], otherwise: str) -> None:
    """Refuse models that stand beside checkpoints.

    Args:
        models: That are named, too.
        otherwise: What else can be done with them.

    Raises:
        ArgumentError: There are some.
    """
    found = list(models) if isinstance(models, list | tuple) else [models]
    if found:
        raise ArgumentError(
            f"expected either models or --checkpoints, found both: {len(found)} beside them",
            where=str(found[0]) if isinstance(found[0], str | Path) else "",
            remedy=f"name what belongs to the training behind --checkpoints, or {otherwise}",
        )
