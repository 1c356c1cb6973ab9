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
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mergekit_geo.checkpoints.journal import FILE, FRESH, Journal, work_of
from mergekit_geo.errors import OutputError, OutputExistsError

MARK = "merge.json"
"""Every merge holds this file: only folders that do are ever replaced by one."""

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
        mark: The file that tells an output of this kind.
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
        mark: str = MARK,
        keep: Iterable[str] = (),
    ) -> None:
        check_output(out, overwrite=overwrite, mark=mark)
        self.out, self.overwrite, self.fsync, self.mark = out.resolve(), overwrite, fsync, mark
        self.folder = partial_of(out)
        _make(self.folder, mark)
        self._lock: int | None = _lock(self.folder)
        try:
            work = [identity, None if fsync else _boot()]
            known = Journal(self.folder, work, resume=resume)
            self.journal, self.restarted = known, known.is_other
            self.finished = known.finished
            if not self.finished:
                self._clear(() if self.restarted else keep)
        except BaseException:
            os.close(self._lock)
            raise

    def publish(self) -> None:
        """Make the folder appear as `out`.

        Raises:
            OutputExistsError: Something else has come to be there in the meantime.
        """
        check_output(self.out, overwrite=self.overwrite, mark=self.mark)
        if self.fsync:
            flush_tree(self.folder)
        self.journal.remove()
        if self.out.exists():
            _exchange(self.folder, self.out)
            _remove(self.folder, self.mark)
        else:
            self.folder.rename(self.out)
        if self.fsync:
            _flush(self.out.parent)
        self.leave()

    def leave(self) -> None:
        """Stop; what is finished stays for the next run. Does nothing the second time."""
        self.journal.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def discard(self) -> None:
        """Stop, and remove what was written."""
        self.leave()
        shutil.rmtree(self.folder)

    def _clear(self, keep: Iterable[str]) -> None:
        for path in self.folder.iterdir():
            if path.name not in {FILE, *keep}:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def check_output(
    out: Path, inputs: Iterable[Path] = (), *, overwrite: bool = False, mark: str = MARK
) -> None:
    """Refuse a place for an output where it would do harm.

    Raises:
        OutputExistsError: It is there and may not be replaced.
        OutputError: It lies inside an input, or an input inside it.
    """
    targets = out.absolute().resolve(), partial_of(out).resolve()
    for folder in inputs:
        source = folder.resolve()
        if any(t == source or source in t.parents or t in source.parents for t in targets):
            raise OutputError(
                f"the output would touch the input {folder}",
                where=str(out),
                remedy="choose a folder outside every input",
            )
    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        raise OutputExistsError(
            "the output exists", where=str(out), remedy="--overwrite replaces it when all is done"
        )
    if not (out / mark).is_file() or out.is_symlink():
        raise OutputExistsError(
            f"this is no output of geo-merge (it has no {mark}), so it is not replaced",
            where=str(out),
            remedy="remove it yourself, or choose another -o",
        )


def unfinished(out: Path) -> Any:
    """The identity of the run that an output was left unfinished by, None if there was none."""
    work = work_of(partial_of(out))
    return None if work is None else work[0]


def partial_of(out: Path) -> Path:
    """Where an output is made."""
    full = out.resolve()
    return full.with_name(full.name + ".partial")


def _make(folder: Path, mark: str) -> None:
    ours = any((folder / name).exists() for name in (FILE, FRESH, mark))
    if folder.exists() and not ours and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputExistsError(
            "in the way, and not made by geo-merge", where=str(folder), remedy="move it away"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be made: {error.strerror}", where=str(folder)) from error


def _lock(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY)
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


def _remove(folder: Path, mark: str) -> None:
    """Remove an output, its mark last: a kill in between leaves a folder known as ours."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == mark):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.rmdir()


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
