"""Make every picture and every table of docs/lesson anew, and of the two pages that it leads to.

python -m scripts.lesson                  # all, about half an hour on two cores
python -m scripts.lesson filters norms    # some

Numbers and pictures go to docs/lesson/images, tables into the pages, in place of those that are
there with the same heading.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "lesson" / "images"
LESSON = "examples.lesson"
PROGRAMS = {
    "convex": (f"{LESSON}.convex", ("lesson/landscape",)),
    "saddles": ("examples.saddles", ("saddles", "lesson/saddles")),
    "architectures": ("examples.architectures", ("skip-connections", "lesson/landscape")),
    "generalisation": (f"{LESSON}.generalisation", ("lesson/sharp-and-flat",)),
    "norms": (f"{LESSON}.norms", ("lesson/sam",)),
    "filters": (f"{LESSON}.filters", ("lesson/pictures",)),
    "optimizers": (f"{LESSON}.optimizers", ("lesson/pictures",)),
    "ensembles": (f"{LESSON}.ensembles", ("lesson/connectivity",)),
}
"""Where each program is, and the pages of docs/ that show what it measured."""


def program(name: str) -> ModuleType:
    """A program of the lesson."""
    return import_module(PROGRAMS[name][0])


def pages(name: str) -> list[Path]:
    """The pages that show what a program measured."""
    return [ROOT / "docs" / f"{page}.md" for page in PROGRAMS[name][1]]


def tables(name: str) -> list[str]:
    """The tables of what a program measured last."""
    measured = json.loads((IMAGES / f"{name}.json").read_text())
    return list(program(name).tables(measured).values())


def with_table(text: str, table: str) -> str:
    """A page with a table in place of the one that has the same heading.

    Raises:
        ValueError: There is none.
    """
    lines, new = text.split("\n"), table.split("\n")
    if new[0] not in lines:
        raise ValueError(f"no table with the heading {new[0]}")
    start = stop = lines.index(new[0])
    while stop < len(lines) and lines[stop].startswith("|"):
        stop += 1
    return "\n".join([*lines[:start], *new, *lines[stop:]])


def main(names: Sequence[str]) -> None:
    """Run programs, and write their tables into the pages."""
    for name in names or PROGRAMS:
        print(f"== {name}", flush=True)
        program(name).write(IMAGES)
        for table in tables(name):
            print(table, flush=True)
            for page in pages(name):
                if table.split("\n")[0] in page.read_text():
                    page.write_text(with_table(page.read_text(), table))


if __name__ == "__main__":
    main(sys.argv[1:])
