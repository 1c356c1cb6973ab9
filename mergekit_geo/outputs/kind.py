"""What tells an output of one kind from all other folders: no other is ever replaced by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "merge.json"
"""Every merge holds this file."""

REPORT = "report.json"
LEFT_BY_THE_SYSTEM = frozenset({".DS_Store", "figures/.DS_Store"})


@dataclass(frozen=True)
class Kind:
    """A kind of output.

    Attributes:
        mark: A file that every one holds.
        command: The one that its report names; any if empty.
        files: All that one may hold, relative to it; anything if empty.
    """

    mark: str = MARK
    command: str = ""
    files: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """What unfinished work of this kind is known by."""
        return self.command or self.mark

    def objection(self, place: Path) -> str | None:
        """Why what lies somewhere is none of this kind; None if it is one."""
        if place.is_symlink():
            return "this is a link"
        if not place.is_dir():
            return "this is no folder"
        if not (place / self.mark).is_file():
            return f"this is no output of geo-merge (it has no {self.mark})"
        if self.command and (made := _command_in(place / REPORT)) != self.command:
            by = f"an output of geo-merge {made}" if made else "no report of geo-merge"
            return f"this is {by}, not of {self.command}"
        if self.files and (other := next(self._others(place), None)):
            return f"geo-merge {self.command} did not write the {other} in it"
        return None

    def _others(self, folder: Path) -> Iterator[str]:
        """What one of this kind does not hold."""
        known = self.files | LEFT_BY_THE_SYSTEM
        folders = {Path(file).parent.as_posix() for file in known}
        for path in folder.rglob("*"):
            name = path.relative_to(folder).as_posix()
            is_folder = path.is_dir() and not path.is_symlink()
            if name not in (folders if is_folder else known):
                yield name


MERGED = Kind()


def _command_in(path: Path) -> str | None:
    """The command that a report names; None where there is no report of ours."""
    try:
        report = json.loads(path.read_bytes())
        return str(report["command"]) if "schema_version" in report else None
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None
