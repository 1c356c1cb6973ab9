"""What tells an output of one kind from all other folders: no other is ever replaced by one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mergekit_geo.outputs.journal import FILE as JOURNAL
from mergekit_geo.views.block import FIGURES
from mergekit_geo.views.files import PAGE

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
        work: What a run of the same work can go on with in an unfinished one: patterns.
        scratch: What is in an unfinished one alone: names.
    """

    mark: str = MARK
    command: str = ""
    files: frozenset[str] = frozenset()
    work: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()

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


def measurement(
    command: str,
    figures: Iterable[str],
    mark: str = REPORT,
    beside: Iterable[str] = (),
    scratch: tuple[str, ...] = (),
) -> Kind:
    """The kind of output that a measurement makes: no weights are in it, and nothing else.

    Args:
        command: What measures.
        figures: All that it can draw.
        mark: The file that tells one.
        beside: What else it holds.
        scratch: Files that an interrupted run leaves for the next.
    """
    held = (REPORT, PAGE, mark, *beside, *(f"{FIGURES}/{name}" for name in figures))
    return Kind(mark, command, frozenset(held), work=scratch, scratch=scratch)


MERGED = Kind(work=(JOURNAL,))
ESCAPE_STATE = "escape.safetensors"
"""What an interrupted escape leaves for the next run."""
ESCAPED = Kind("escape.json", work=(ESCAPE_STATE,), scratch=(ESCAPE_STATE,))
EVALUATION = measurement("eval", ("losses.png", "losses.svg"))
CURVES = ("barrier.csv", "barrier.png", "barrier.svg")
LAYERS = tuple(f"{name}.{form}" for name in ("layers", "modules") for form in ("png", "svg"))
LAYER_WEIGHTS = "layer_weights.json"
"""Weights by group of layers, as `barrier --by-layer` proposes them."""
BARRIER = measurement(
    "barrier", (*CURVES, "matrix.png", "matrix.svg", *LAYERS, "layers.csv"), beside=(LAYER_WEIGHTS,)
)
SHARPNESS = measurement(
    "sharpness", ("sharpness.png", "sharpness.svg", "spectrum.png", "spectrum.svg")
)
SEARCHED = ("front", "importance", "slices", "slices-more")
SEARCH = measurement(
    "search",
    ("search.csv", *(f"search-{name}.{form}" for name in SEARCHED for form in ("png", "svg"))),
)
LANDSCAPE = measurement(
    "landscape", ("landscape.npz", "landscape.png", "landscape.svg", "landscape.html")
)


def _command_in(path: Path) -> str | None:
    """The command that a report names; None where there is no report of ours."""
    try:
        report = json.loads(path.read_bytes())
        return str(report["command"]) if "schema_version" in report else None
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None
