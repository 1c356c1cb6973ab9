"""The folder in which a model is trained, and the states that an interrupted run leaves there."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from mergekit_geo.errors import ArgumentError, OutputExistsError
from mergekit_geo.files.sound_json import read_json
from mergekit_geo.outputs.config import OutputConfig
from mergekit_geo.outputs.kind import Kind
from mergekit_geo.outputs.workspace import (
    Workspace,
    check_output,
    flush_tree,
    partial_of,
    unfinished,
)
from mergekit_geo.processes import broadcast, is_main_process, main_process_first
from mergekit_geo.training.tuning import changes

RECORD = "finetune.json"
"""Every fine-tuned model holds this file: only folders that do are ever replaced by one."""

TUNED = Kind(RECORD)

STATES, WHOLE = "training", "whole"
READY = "ready"
"""Marker in an unfinished folder that only has to be renamed, whatever is left of the states."""
ASIDE = (
    "max-shard-size", "device", "accelerator", "matmul", "convolution", "environment", "code",
)  # fmt: skip
"""Parts of a run's identity that a finished model need not share with the run that asks for it."""

START_OVER = "--overwrite, without --resume, starts over"


class TrainingFolder:
    """`OUT.partial` while a model is trained: written by the first process, known to all.

    Args:
        out: Where the model will be.
        identity: Of the run.
        output: Whether an older one may be replaced, and how safely it is written.
        resume: Go on with an unfinished run.
        keep: What an unfinished run leaves for the next, by name.

    Attributes:
        workspace: Of the first process, None in the others.
        folder: Where the model is made.
        is_ready: Whether an earlier run of the same work had only to publish it.

    Raises:
        OutputExistsError: A model is there, or an unfinished run that was not asked for.
        ArgumentError: The unfinished run is another one.
        OutputError: Another run is writing it, or the folder cannot be made.
    """

    def __init__(
        self,
        out: Path,
        identity: dict[str, Any],
        output: OutputConfig,
        *,
        resume: bool,
        keep: tuple[str, ...] = (STATES,),
    ) -> None:
        self.workspace: Workspace | None = None
        self._identity, self._output, self._keep = identity, output, keep
        self.folder = partial_of(out)
        main_process_first(lambda: self._open(out, resume=resume))
        self.is_ready = broadcast((self.folder / READY).is_file())

    @property
    def states(self) -> Path:
        """Folder of the states that a run can be resumed from."""
        return self.folder / STATES

    def latest(self) -> Path | None:
        """The latest complete state."""
        return broadcast(latest_state(self.states))

    def publish(self) -> None:
        """Make the model appear, without the states."""
        if self.workspace is not None:
            (self.folder / READY).touch()
            for mark in self.states.glob(f"*/{WHOLE}"):  # before what it vouches for
                mark.unlink()
            shutil.rmtree(self.states, ignore_errors=True)
            self.workspace.publish(spare=(READY,))
            self.workspace = None
        broadcast(None)

    def leave(self) -> None:
        """Stop: keep what a later run can continue with, and remove everything else."""
        if self.workspace is None:
            return
        if holds_work(self.folder, self._keep):
            self.workspace.leave()
        else:
            self.workspace.discard()

    def _open(self, out: Path, *, resume: bool) -> None:
        check_output(out, overwrite=self._output.overwrite, kind=TUNED)
        if holds_work(self.folder, self._keep):
            self._check_earlier(unfinished(out), resume=resume)
        self.workspace = Workspace(
            out, self._identity, overwrite=self._output.overwrite, fsync=self._output.fsync,
            resume=resume, kind=TUNED, keep=self._keep,
        )  # fmt: skip

    def _check_earlier(self, then: dict[str, Any] | None, *, resume: bool) -> None:
        """Refuse to lose an unfinished run, or to go on with another one's."""
        if not resume and not self._output.overwrite:
            raise OutputExistsError(
                "a run was left unfinished there",
                where=str(self.folder),
                remedy=f"--resume goes on with it; {START_OVER}",
            )
        found = changes(then or {}, self._identity)
        if resume and found:
            raise ArgumentError(
                f"the unfinished run there is another one: {'; '.join(found[:3])}",
                where=str(self.folder),
                remedy=f"give what it was started with; or: {START_OVER}",
            )


def kept_identity(identity: dict[str, Any]) -> dict[str, Any]:
    """What a finished model notes of its run: the base by a digest, as its paths are private."""
    base = json.dumps(identity["model"]).encode()
    return {**identity, "model": hashlib.sha256(base).hexdigest()}


def differences(out: Path, identity: dict[str, Any]) -> list[str]:
    """What the run that made a model was given other than this, in words.

    Libraries and machine may have changed since: the model says by which ones it was trained.

    Args:
        out: A finished model.
        identity: Of the run that would make it.
    """
    then = read_json(out / RECORD).get("identity", {})
    now = kept_identity(identity)
    same = {key: value for key, value in then.items() if not _is_aside(key)}
    return changes(same, {key: value for key, value in now.items() if not _is_aside(key)})


def _is_aside(key: str) -> bool:
    return key in ASIDE or key.startswith("version of ")


def latest_state(states: Path) -> Path | None:
    """The complete state of the highest step, None if there is none."""
    found = [mark.parent for mark in states.glob(f"checkpoint-*/{WHOLE}")]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def mark_whole(state: Path, *, fsync: bool) -> None:
    """Note that every process has written its part of a state."""
    broadcast(None)
    if is_main_process():
        if fsync:
            flush_tree(state)
        (state / WHOLE).touch()


def holds_work(folder: Path, keep: tuple[str, ...] = (STATES,)) -> bool:
    """Whether an unfinished folder holds what a later run can go on with."""
    kept = (READY, *(name for name in keep if name != STATES))
    return latest_state(folder / STATES) is not None or any((folder / n).exists() for n in kept)
