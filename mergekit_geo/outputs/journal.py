"""What a run has finished, so that the same run goes on after a kill.

One JSON line names the work (recipe and inputs); each further line is one finished tensor. A line
is written only after the data it speaks of, and a torn last line is none.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import psutil

from mergekit_geo.files.replacement import replacing
from mergekit_geo.files.sound_json import parse_json
from mergekit_geo.portable import move

FILE = "journal.jsonl"
FRESH = "journal.new"
"""The journal while it is written anew; a kill can leave it behind."""


class Journal:
    """The journal of a folder under construction.

    Args:
        folder: The folder.
        fingerprint: A JSON value that names the work.
        resume: Take up what an earlier run of the same work has done.
        fsync: Flush to the disk what is known at the beginning.

    Attributes:
        finished: Records of tensors that an earlier run of the same work has finished.
        is_same: Whether the folder held the journal of the same work, and it is taken up.
        is_other: Whether the folder held a journal that is not taken up, and forgotten.
    """

    def __init__(
        self, folder: Path, fingerprint: object, *, resume: bool = True, fsync: bool = False
    ) -> None:
        self.path = folder / FILE
        lines = _whole_lines(self.path)
        named = json.loads(json.dumps(fingerprint))
        same = resume and bool(lines) and lines[0] == {"work": named}
        self.is_same, self.is_other = same, bool(lines) and not same
        self.finished: dict[str, Any] = (
            {line["tensor"]: line["record"] for line in lines[1:]} if same else {}
        )
        self._rewrite([{"work": named}, *lines[1:]] if same else [{"work": named}], fsync=fsync)
        self._file = self.path.open("a", encoding="utf-8")

    def add(self, tensor: str, record: object) -> None:
        """Note that a tensor is written."""
        self._file.write(json.dumps({"tensor": tensor, "record": record}) + "\n")
        self._file.flush()

    def flush(self) -> None:
        """Return when the journal is on the disk."""
        os.fsync(self._file.fileno())

    def move(self, place: Path) -> None:
        """The work is whole, or thrown away: the folder has no journal any more, and `place` has.

        Does nothing the second time.
        """
        self._file.close()
        if self.path.is_file():
            move(self.path, place)

    def close(self) -> None:
        """Stop writing; what is written stays for the next run."""
        self._file.close()

    def _rewrite(self, lines: list[Any], *, fsync: bool) -> None:
        with replacing(self.path, FRESH, fsync=fsync) as fresh:
            fresh.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def boot() -> str:
    """Changes when the machine starts anew, after which unflushed data cannot be trusted."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.is_file() else f"{psutil.boot_time():.0f}"


def work_in(path: Path) -> list[Any] | None:
    """The identity of the work that a journal is of, None if it is no journal."""
    first = next(iter(_whole_lines(path)), None)
    work = first.get("work") if isinstance(first, dict) else None
    return work if isinstance(work, list) else None


def _whole_lines(path: Path) -> list[Any]:
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text("utf-8", errors="replace").splitlines():
        try:
            lines.append(parse_json(text))
        except ValueError:
            break
    return lines
