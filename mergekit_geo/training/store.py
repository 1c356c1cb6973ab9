"""The folder in which a model is trained, and the states that an interrupted run leaves there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mergekit_geo.errors import ArgumentError, OutputExistsError
from mergekit_geo.files.replacement import flush_tree
from mergekit_geo.files.sound_json import read_json
from mergekit_geo.outputs.kind import Kind
from mergekit_geo.outputs.output import Output
from mergekit_geo.outputs.place import traces_of
from mergekit_geo.processes import broadcast, is_main_process

RECORD = "finetune.json"
"""Every fine-tuned model holds this file: only folders that do are ever replaced by one."""

STATES, WHOLE = "training", "whole"
TUNED = Kind(RECORD, work=(f"{STATES}/checkpoint-*/{WHOLE}",), scratch=(STATES,))
ASIDE = (
    "max-shard-size", "device", "accelerator", "matmul", "convolution", "environment", "code",
)  # fmt: skip
"""Parts of a run's identity that a finished model need not share with the run that asks for it."""

SHOWN = 40
"""Most characters of a value that is shown where two runs differ."""

START_OVER = "--overwrite, without --resume, starts over"


def kind_of_members(count: int) -> Kind:
    """The kind of output that so many members are: the next run goes on with what is there."""
    names = names_of_members(count)
    left = (trace.name for name in names for trace in traces_of(Path(name)))
    return replace(TUNED, work=(*names, *left), scratch=())


def names_of_members(count: int) -> list[str]:
    """The folders of members, in that of all."""
    return [f"member-{i}" for i in range(count)]


def begin_training(output: Output, fingerprint: dict[str, Any], *, resume: bool) -> None:
    """Begin a run, or take up an unfinished one.

    Args:
        output: Of the model, or of all members.
        fingerprint: Of the run.
        resume: Go on with an unfinished run.

    Raises:
        OutputExistsError: An unfinished run is there that was not asked for.
        ArgumentError: The unfinished run is another one.
    """

    def check(then: dict[str, Any]) -> None:
        if not resume and not output.overwrite:
            raise OutputExistsError(
                "a run was left unfinished there",
                where=str(output.folder),
                remedy=f"--resume continues from it; {START_OVER}",
            )
        found = changes(then, fingerprint)
        if resume and found:
            raise ArgumentError(
                f"the unfinished run there is another one: {'; '.join(found[:3])}",
                where=str(output.folder),
                remedy=f"give what it was started with; or: {START_OVER}",
            )

    output.begin(fingerprint, resume=resume, check=check)


def stored_fingerprint(fingerprint: dict[str, Any]) -> dict[str, Any]:
    """What a finished model notes of its run: the base by a digest, as its paths are private."""
    base = json.dumps(fingerprint["model"]).encode()
    return {**fingerprint, "model": hashlib.sha256(base).hexdigest()}


def differences(out: Path, fingerprint: dict[str, Any]) -> list[str]:
    """What the run that made a model was given other than this, in words.

    Libraries and machine may have changed since: the model says by which ones it was trained.

    Args:
        out: A finished model.
        fingerprint: Of the run that would make it.
    """
    then = read_json(out / RECORD).get("identity", {})
    now = stored_fingerprint(fingerprint)
    same = {key: value for key, value in then.items() if not _is_aside(key)}
    return changes(same, {key: value for key, value in now.items() if not _is_aside(key)})


def _is_aside(key: str) -> bool:
    return key in ASIDE or key.startswith("version of ")


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe in words where two fingerprints differ.

    Example:
        >>> changes({"steps": 5, "seed": 0}, {"steps": 6, "seed": 0})
        ['steps was 5, and is 6']
    """
    kept = json.loads(json.dumps(now))
    keys = [key for key in {**then, **kept} if then.get(key) != kept.get(key)]
    return [_change(key.replace("_", "-"), then.get(key), kept.get(key)) for key in keys]


def _change(name: str, then: object, now: object) -> str:
    if max(len(str(then)), len(str(now))) > SHOWN:
        return f"{name} has changed"
    return f"{name} was {then}, and is {now}"


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
