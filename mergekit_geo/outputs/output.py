"""The one way in which a folder appears: whole or not at all.

Work goes to `OUT.partial`, which becomes `OUT` by one rename. An old `OUT` stays in place until
then and is exchanged for the new one in one step where the system can.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.sources import folders_of
from mergekit_geo.config.output import OutputConfig
from mergekit_geo.errors import OutputError
from mergekit_geo.files.replacement import exchange, flush_tree
from mergekit_geo.outputs.journal import FILE, Journal, boot, work_in
from mergekit_geo.outputs.kind import Kind
from mergekit_geo.outputs.place import check_output, claim_of, is_vacant, lock, partial_of, resolved
from mergekit_geo.outputs.writer import bytes_in, check_space, output_errors
from mergekit_geo.portable import flush, move
from mergekit_geo.processes import main_process_first
from mergekit_geo.records.report import Report
from mergekit_geo.views.files import write_report

READY = "ready"
"""Marker in an unfinished folder that only has to be renamed, whatever is left of its scratch."""


class Output:
    """An output folder while it is made, from before any work until it appears.

    Used as a context: what is not published is left for the next run, if that can go on with it,
    and thrown away if not. Under several processes the first one writes, and all know the folder.

    Args:
        out: Where the output will be; None keeps the result in memory, and nothing is written.
        kind: What tells an output of this kind: no other folder is ever replaced.
        overwrite: Replace an output that is there.
        fsync: Flush to the disk before the output appears, and before work counts as finished.
        inputs: What may not lie in it, nor it in that; `refuse_inputs` adds what is opened later.

    Attributes:
        out: As given.
        partial: Where to write, `OUT.partial`; None in memory.
        journal: What is finished, once the work has begun.
        finished: Records of the tensors that an earlier run of the same work has written.
        restarted: Whether unfinished work was thrown away, as of another recipe or changed inputs.
        is_ready: Whether an earlier run of the same work had only to publish it.

    Raises:
        OutputExistsError: Something is there that may not be replaced, or is in the way.
        OutputError: Another run is writing it, or the folder cannot be made.
    """

    journal: Journal

    def __init__(
        self,
        out: str | Path | None,
        kind: Kind,
        *,
        overwrite: bool = False,
        fsync: bool = True,
        inputs: Iterable[Checkpoint] = (),
    ) -> None:
        self.out = None if out is None else Path(out)
        self.partial = None if self.out is None else partial_of(self.out)
        self.kind, self.overwrite, self.fsync = kind, overwrite, fsync
        self.finished: dict[str, Any] = {}
        self.restarted = self.is_ready = self._has_begun = False
        self._needed = 0
        self._unlock: Callable[[], None] | None = None
        if self.out is not None:
            main_process_first(lambda: self._open(inputs))

    @classmethod
    def of(
        cls,
        out: str | Path | None,
        kind: Kind,
        config: OutputConfig,
        inputs: Iterable[Checkpoint] = (),
    ) -> Self:
        """Open an output that is written as a configuration says."""
        return cls(out, kind, overwrite=config.overwrite, fsync=config.fsync, inputs=inputs)

    @property
    def folder(self) -> Path:
        """Where to write."""
        assert self.partial is not None, "a result in memory has no folder"
        return self.partial

    @property
    def place(self) -> Path:
        """Where the output will be, links followed."""
        assert self.out is not None, "a result in memory has no place"
        return resolved(self.out)

    def refuse_inputs(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Refuse a place inside an input, or one that holds an input.

        Raises:
            OutputError: It is one.
        """
        if self.out is not None:
            folders = folders_of(checkpoints)
            check_output(self.out, folders, overwrite=self.overwrite, kind=self.kind)

    def need(self, nbytes: int, *, at_once: bool = True) -> None:
        """State how much is going to be written.

        Args:
            nbytes: In all, with what an earlier run has written.
            at_once: Refuse it now if the disk does not hold it.

        Raises:
            DiskFullError: The disk does not hold it.
        """
        self._needed = nbytes
        if at_once and self.out is not None:
            main_process_first(lambda: check_space(self.folder, nbytes, bytes_in(self.folder)))

    def begin(
        self,
        fingerprint: object,
        *,
        resume: bool = True,
        check: Callable[[Any], None] = lambda then: None,
    ) -> None:
        """Take up an earlier unfinished run of the same work, or clear the folder.

        Args:
            fingerprint: A JSON value that names recipe and inputs.
            resume: Take it up; if not, it is thrown away.
            check: Given the identity of an unfinished run whose work is there; may raise.

        Raises:
            GeoError: As `check` raises.
        """
        if self.out is not None:
            self.is_ready = main_process_first(
                lambda: self._begin(fingerprint, check, resume=resume)
            )

    def writing(self) -> AbstractContextManager[None]:
        """Turn what the system says while the output is written into our errors."""
        return output_errors(self.folder.parent, self._needed)

    def publish(
        self, report: Report | None = None, fill: Callable[[Path], object] = lambda folder: None
    ) -> None:
        """Write the last files, and make the folder appear.

        Args:
            report: The numbers; page, pictures and card are drawn from them.
            fill: Given the folder, writes what else belongs there, first; in one process.

        Raises:
            OutputExistsError: Something else has come to be there in the meantime.
            OutputError: It cannot be written.
        """
        if self.out is not None:
            main_process_first(lambda: self._publish(report, fill))

    def discard(self) -> None:
        """Stop, and remove what was written. Does nothing where all is over."""
        if self._unlock is None:
            return
        if self._has_begun:
            self.journal.move(claim_of(self.place))
        shutil.rmtree(self.folder)
        claim_of(self.place).unlink(missing_ok=True)
        self._close()

    def leave(self) -> None:
        """Stop; what a later run can go on with stays, and nothing else does."""
        if self._unlock is None:
            return
        if self._is_worthless():
            self.discard()
        else:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.leave()

    def _open(self, inputs: Iterable[Checkpoint]) -> None:
        assert self.out is not None
        self.refuse_inputs(inputs)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            where = str(self.folder)
            raise OutputError(f"cannot be made: {error.strerror}", where=where) from error
        self._unlock = lock(self.folder)

    def _begin(self, fingerprint: object, check: Callable[[Any], None], *, resume: bool) -> bool:
        with self.writing():
            then = work_in(self.folder / FILE)
            if then is not None and holds_work(self.folder, self.kind):
                check(then[0])
            work = [fingerprint, None if self.fsync else boot(), self.kind.name]
            self.journal = Journal(self.folder, work, resume=resume, fsync=self.fsync)
            self._has_begun = True
            claim_of(self.place).unlink(missing_ok=True)  # the journal tells from now on
            self.restarted, self.finished = self.journal.is_other, self.journal.finished
            if not self.finished:
                self._clear()
            return (self.folder / READY).is_file()

    def _clear(self) -> None:
        """Remove what no run of this work has left."""
        kept = {READY, *self.kind.scratch, *(pattern.split("/")[0] for pattern in self.kind.work)}
        for path in self.folder.iterdir():
            if path.name != FILE and not (self.journal.is_same and path.name in kept):
                _remove(path)

    def _publish(self, report: Report | None, fill: Callable[[Path], object]) -> None:
        if not self._has_begun:
            self._begin([], lambda then: None, resume=True)
        with self.writing():
            fill(self.folder)
            if report is not None:
                write_report(report, self.folder)
            self._appear()
        self._close()

    def _appear(self) -> None:
        out = self.place
        check_output(out, overwrite=self.overwrite, kind=self.kind)
        (self.folder / READY).touch()
        self._remove_scratch()
        if self.fsync:
            flush_tree(self.folder)
        (self.folder / READY).unlink()
        self.journal.move(claim_of(out))
        self._replace(out)
        if self.fsync:
            flush(out.parent)
        claim_of(out).unlink()

    def _remove_scratch(self) -> None:
        """Remove what is no part of the output: first what would make a torn rest count as work."""
        for name in self.kind.scratch:
            for pattern in self.kind.work:
                if pattern.startswith(name):
                    for path in self.folder.glob(pattern):
                        _remove(path)
            _remove(self.folder / name)

    def _replace(self, out: Path) -> None:
        """Exchange the folder for what is at `out`, and remove that; or just rename it."""
        if out.exists():
            self.folder.chmod(stat.S_IMODE(out.stat().st_mode))
        if not out.exists() or is_vacant(out):
            move(self.folder, out)
            return
        unlock = lock(out)  # or the next run would take it for unfinished work
        try:
            exchange(self.folder, out)
            shutil.rmtree(self.folder)
        finally:
            unlock()

    def _is_worthless(self) -> bool:
        """Whether no later run could go on with what is there."""
        if self._has_begun:
            return not holds_work(self.folder, self.kind)
        return not any(self.folder.iterdir())

    def _close(self) -> None:
        if self._has_begun:
            self.journal.close()
        if self._unlock is not None:
            self._unlock()
            self._unlock = None


def holds_work(partial: Path, kind: Kind) -> bool:
    """Whether an unfinished folder of a kind holds what a later run can go on with."""
    return any(any(partial.glob(pattern)) for pattern in (READY, *kind.work))


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
