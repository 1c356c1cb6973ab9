"""Where an output will be, where it is made until then, and what must not be there.

Work goes to `OUT.partial`, which becomes `OUT` by one rename.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mergekit_geo.errors import OutputError, OutputExistsError
from mergekit_geo.files.local_path import problem_of
from mergekit_geo.files.sound_json import brief
from mergekit_geo.outputs.journal import FILE, FRESH, work_in
from mergekit_geo.outputs.kind import MERGED, Kind
from mergekit_geo.portable import lock_folder


def check_output(
    out: Path, inputs: Iterable[Path] = (), *, overwrite: bool = False, kind: Kind = MERGED
) -> None:
    """Refuse a place for an output where it would do harm; an empty folder may be there.

    Raises:
        OutputExistsError: Something is there that may not be replaced, or is in the way.
        OutputError: It lies inside an input, or an input inside it.
    """
    targets = resolved(out), partial_of(out).resolve()
    for folder in inputs:
        source = folder.resolve()
        if any(t == source or source in t.parents or t in source.parents for t in targets):
            raise OutputError(
                f"the output would touch the input {folder}",
                where=str(out),
                remedy="choose a folder outside every input",
            )
    _refuse_others_work(out, kind)
    if not os.path.lexists(out) or is_vacant(out):
        return
    objection = kind.objection(out)
    by_hand = "remove it yourself, or choose another -o"
    if not overwrite:
        remedy = by_hand if objection else "--overwrite replaces it when all is done"
        raise OutputExistsError("the output exists", where=str(out), remedy=remedy)
    if objection:
        raise OutputExistsError(
            f"{objection}, so it is not replaced", where=str(out), remedy=by_hand
        )


def is_vacant(out: Path) -> bool:
    """Whether an empty folder lies there, in the place of which an output can appear.

    Raises:
        OutputExistsError: A disk is mounted on it: nothing can appear in its place.
    """
    if out.is_symlink() or not out.is_dir() or any(out.iterdir()):
        return False
    if os.path.ismount(out):  # Path.is_mount is for Unix alone until 3.12
        raise OutputExistsError(
            "a disk is mounted on this folder, so another one cannot take its place",
            where=str(out),
            remedy=f"choose a folder in it, such as -o {out / 'out'}",
        )
    return True


def lock(folder: Path) -> Callable[[], None]:
    """Have a folder to oneself, until what is returned is called.

    Raises:
        OutputError: Another run has it.
    """
    try:
        return lock_folder(folder)
    except OSError as error:
        busy = isinstance(error, BlockingIOError | FileNotFoundError)
        message = "another run is writing this output" if busy else f"cannot be locked: {error}"
        raise OutputError(message, where=str(folder)) from error


def unfinished(out: Path) -> Any:
    """The identity of the run that an output was left unfinished by, None if there was none."""
    work = work_in(partial_of(out) / FILE)
    return work[0] if work else None


def partial_of(out: Path) -> Path:
    """Where an output is made."""
    full = resolved(out)
    return full.with_name(full.name + ".partial")


def resolved(out: Path) -> Path:
    """A place for an output, links followed.

    Raises:
        OutputError: Nothing can be written there by any means.
    """
    problem = problem_of(str(out)) or problem_of(f"{str(out).rstrip('/')}.partial")
    if problem:
        raise OutputError(problem, where=brief(str(out))[1:-1])
    full = out.resolve()
    if not full.name:
        raise OutputError("this is no folder that could be made", where=str(out))
    return full


def traces_of(out: Path) -> tuple[Path, Path]:
    """What unfinished work on an output leaves beside it."""
    return partial_of(out), claim_of(out)


def claim_of(out: Path) -> Path:
    """The journal while an output appears: it tells that `OUT.partial` is ours, new or old.

    A kill can leave it behind; the next run of the same command takes it away.
    """
    full = resolved(out)
    return full.with_name(f".{full.name}.geo")


def _refuse_others_work(out: Path, kind: Kind) -> None:
    """Refuse an `OUT.partial` unless it is certain that work of this kind was left there."""
    folder = partial_of(out)
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        what = "a link" if folder.is_symlink() else "no folder"
        raise OutputExistsError(
            f"in the way: this is {what}", where=str(folder), remedy="move it away"
        )
    work = work_in(folder / FILE) or work_in(claim_of(out))
    if work is None and any(folder.iterdir()) and not (folder / FRESH).is_file():
        raise OutputExistsError(
            "in the way, and not made by geo-merge", where=str(folder), remedy="move it away"
        )
    if work is not None and work[2:] != [kind.name]:
        raise OutputExistsError(
            "in the way: unfinished work of another command",
            where=str(folder),
            remedy="finish it by that command, move it away, or choose another -o",
        )
