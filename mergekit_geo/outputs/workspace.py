"""An output folder that appears whole or not at all.

Work goes to `OUT.partial`, which becomes `OUT` by one rename. An old `OUT` stays in place until
then and is exchanged for the new one in one step where the system can.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mergekit_geo.errors import OutputError, OutputExistsError
from mergekit_geo.files.local_path import problem_of
from mergekit_geo.files.sound_json import brief
from mergekit_geo.outputs.journal import FILE, FRESH, Journal, work_in
from mergekit_geo.outputs.kind import MERGED, Kind

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class Workspace:
    """The folder in which an output is made.

    Args:
        out: Where the output will be.
        identity: A JSON value naming recipe and inputs; an earlier unfinished run of the same
            work is taken up again.
        overwrite: Replace an output that is there.
        fsync: Flush to the disk before the output appears, and before work counts as finished.
        resume: Take up an earlier unfinished run of the same work; if not, it is thrown away.
        kind: What tells an output of this kind.
        keep: What an unfinished run leaves for the next beside finished tensors, by name.

    Attributes:
        folder: Where to write, `OUT.partial`.
        finished: Records of the tensors that an earlier run has written.
        restarted: Whether unfinished work was thrown away, as of another recipe or changed inputs.

    Raises:
        OutputExistsError: `out` is there, or is no output of ours.
        OutputError: Another run is writing it, or the folder cannot be made.
    """

    def __init__(
        self,
        out: Path,
        identity: object,
        *,
        overwrite: bool = False,
        fsync: bool = True,
        resume: bool = True,
        kind: Kind = MERGED,
        keep: Iterable[str] = (),
    ) -> None:
        check_output(out, overwrite=overwrite, kind=kind)
        self.out, self.overwrite, self.fsync, self.kind = resolved(out), overwrite, fsync, kind
        self.folder = partial_of(out)
        _make(self.folder)
        self._lock: int | None = _lock(self.folder)
        try:
            work = [identity, None if fsync else _boot(), kind.name]
            known = Journal(self.folder, work, resume=resume)
            claim_of(out).unlink(missing_ok=True)  # the journal tells whose this is from now on
            self.journal, self.restarted = known, known.is_other
            self.finished = known.finished
            if not self.finished:
                self._clear(() if self.restarted else keep)
        except BaseException:
            os.close(self._lock)
            raise

    def publish(self, spare: Iterable[str] = ()) -> None:
        """Make the folder appear as `out`.

        Args:
            spare: Files that are no part of the output: they go when all else is safe.

        Raises:
            OutputExistsError: Something else has come to be there in the meantime.
        """
        check_output(self.out, overwrite=self.overwrite, kind=self.kind)
        if self.fsync:
            flush_tree(self.folder)
        for name in spare:
            (self.folder / name).unlink(missing_ok=True)
        self.journal.move(claim_of(self.out))
        self._replace()
        if self.fsync:
            _flush(self.out.parent)
        claim_of(self.out).unlink()
        self.leave()

    def _replace(self) -> None:
        """Exchange the folder for what is at `out`, and remove that; or just rename it."""
        if not self.out.exists():
            self.folder.rename(self.out)
            return
        self.folder.chmod(stat.S_IMODE(self.out.stat().st_mode))
        if is_vacant(self.out):
            self.folder.rename(self.out)
            return
        old = _lock(self.out)  # or the next run would take it for unfinished work
        try:
            _exchange(self.folder, self.out)
            shutil.rmtree(self.folder)
        finally:
            os.close(old)

    def leave(self) -> None:
        """Stop; what is finished stays for the next run. Does nothing the second time."""
        self.journal.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def discard(self) -> None:
        """Stop, and remove what was written."""
        self.journal.move(claim_of(self.out))
        shutil.rmtree(self.folder)
        claim_of(self.out).unlink(missing_ok=True)
        self.leave()

    def _clear(self, keep: Iterable[str]) -> None:
        for path in self.folder.iterdir():
            if path.name not in {FILE, *keep}:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


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
    if out.is_mount():
        raise OutputExistsError(
            "a disk is mounted on this folder, so another one cannot take its place",
            where=str(out),
            remedy=f"choose a folder in it, such as -o {out / 'out'}",
        )
    return True


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


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be made: {error.strerror}", where=str(folder)) from error


def _lock(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), folder.stat()):
            raise BlockingIOError  # it was published between opening and locking
    except OSError as error:
        os.close(descriptor)
        busy = isinstance(error, BlockingIOError | FileNotFoundError)
        message = "another run is writing this output" if busy else f"cannot be locked: {error}"
        raise OutputError(message, where=str(folder)) from error
    return descriptor


def _boot() -> str:
    """Changes when the machine starts anew, after which unflushed data cannot be trusted."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.is_file() else "unknown"


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders in one step; in two where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None:
        paths = os.fsencode(new), os.fsencode(old)
        if rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
            return
        if ctypes.get_errno() not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(ctypes.get_errno(), "renameat2", str(old))
    aside = old.with_name(old.name + ".old")
    old.rename(aside)
    new.rename(old)
    aside.rename(new)


def flush_tree(folder: Path) -> None:
    """Return when a folder and all that is in it are on the disk."""
    for path in [*folder.rglob("*"), folder]:
        _flush(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
