"""The checkpoints of one run that are kept for its soup: the last ones, or the best."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergekit_geo.errors import ArgumentError, OutputExistsError
from mergekit_geo.outputs.kind import Kind
from mergekit_geo.outputs.output import Output
from mergekit_geo.portable import move
from mergekit_geo.processes import main_process_first

MARK = "member.json"
"""Every member holds this file, which appears with it."""

KIND = Kind(MARK)
GONE = ".gone"
LEFT = re.compile(rf"step-\d+({re.escape(GONE)}|\.partial)")
"""Names of folders that an interrupted run can leave behind."""

WHICH = ("last", "best")


@dataclass(frozen=True)
class StoredMember:
    """A checkpoint that is kept.

    Attributes:
        folder: An ordinary checkpoint's, or an adapter's.
        step: Of the optimizer.
        metric: What it was evaluated by, None where it was not.
        score: Its value.
    """

    folder: Path
    step: int
    metric: str | None = None
    score: float | None = None


@dataclass(frozen=True)
class MemberStore:
    """A folder of members.

    Attributes:
        folder: Holds `step-STEP` of each.
        keep: Most of them.
        which: The `last`, or the `best`.
        metric: By which they are best, such as `eval_loss`.
        greater: Whether a greater metric is better.
        fsync: Flush a member to the disk before it appears.

    Example:
        >>> MemberStore(Path("members"), 3).wants(step=20, score=None)
        True
    """

    folder: Path
    keep: int
    which: str = "last"
    metric: str | None = None
    greater: bool = False
    fsync: bool = True

    def all(self) -> list[StoredMember]:
        """All members, by step."""
        found = [_read(mark) for mark in self.folder.glob(f"step-*/{MARK}") if _is_member(mark)]
        return sorted(found, key=lambda member: member.step)

    def begin(self, step: int, last_step: int, *, overwrite: bool) -> None:
        """Continue with an earlier run's members, or refuse or remove them.

        Args:
            step: That training begins after; 0 if it does not go on.
            last_step: Of the run; members of later ones are of another.
            overwrite: Throw away what is there, if training does not go on.

        Raises:
            OutputExistsError: Members of another run.
            ArgumentError: Members that were kept by something else.
        """
        for left in self.folder.glob("step-*"):
            if LEFT.fullmatch(left.name) and left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
        there = self.all()
        if there and step == 0 and not overwrite:
            raise OutputExistsError(
                f"{len(there)} members of an earlier run are there",
                where=str(self.folder),
                remedy="train(resume_from_checkpoint=True) continues from it; "
                "OutputConfig(overwrite=True) removes them; or name another folder",
            )
        for member in there:
            if step == 0 or member.step > last_step:
                _throw_away(member)
            elif self.which == "best" and member.metric != self.metric:
                raise ArgumentError(
                    f"kept by {member.metric or 'its step'}, and the best are sought by "
                    f"{self.metric}",
                    where=str(member.folder),
                    remedy="go on by the same metric, or name another folder",
                )
        self._throw_away_too_many()

    def wants(self, step: int, score: float | None) -> bool:
        """Whether a checkpoint is to be kept; of equal scores the earlier is.

        Args:
            step: Of the optimizer.
            score: Value of the metric, None where members are not kept by one.
        """
        if self.which == "last":
            return True
        assert score is not None
        others = [member for member in self.all() if member.step != step]
        better = [member for member in others if not self._is_better(score, member)]
        return math.isfinite(score) and len(better) < self.keep

    def add(self, step: int, score: float | None, write: Callable[[Path], None]) -> StoredMember:
        """Store a checkpoint, and remove one if that makes too many; all processes call this.

        Args:
            step: Of the optimizer.
            score: As `wants` it.
            write: Given the folder that the first process writes into.

        Raises:
            OutputError: It cannot be written; the others are as they were.
        """
        folder = self.folder / f"step-{step}"
        entry = {"step": step, "metric": self.metric, "score": score}

        def mark(place: Path) -> None:
            (place / MARK).write_text(json.dumps(entry) + "\n", "utf-8")

        with Output(folder, KIND, overwrite=True, fsync=self.fsync) as output, output.writing():
            output.begin({"step": step}, resume=False)
            write(output.folder)
            output.publish(fill=mark)
        main_process_first(self._throw_away_too_many)
        return _read(folder / MARK)

    def _throw_away_too_many(self) -> None:
        there = self.all()
        if self.which == "best":
            sign = 1 if self.greater else -1
            there.sort(key=lambda member: (sign * (member.score or 0.0), -member.step))
        for member in there[: -self.keep]:
            _throw_away(member)

    def _is_better(self, score: float, than: StoredMember) -> bool:
        assert than.score is not None
        return score > than.score if self.greater else score < than.score


def _is_member(mark: Path) -> bool:
    return mark.parent.name.removeprefix("step-").isdigit()


def _read(mark: Path) -> StoredMember:
    entry: dict[str, Any] = json.loads(mark.read_text("utf-8"))
    return StoredMember(mark.parent, entry["step"], entry["metric"], entry["score"])


def _throw_away(member: StoredMember) -> None:
    """Remove a member: it is renamed first, so that no partial one remains in place."""
    gone = member.folder.with_name(member.folder.name + GONE)
    move(member.folder, gone)
    shutil.rmtree(gone)
