"""What the redesign of the upper rooms must end, measured on the source.

    python benchmarks/house.py [--verbose] [--root FOLDER]

A table: each row with its number at the start of the redesign, now, the target, and whether that is
reached. It is a report and no gate. What a row counts is said by its function in `house_rows`;
`--verbose` lists every place. START was measured by this script on the tree of commit 01bb782:
`git archive 01bb782 | tar x -C FOLDER`, then `--root FOLDER`. There rooms that are gone count as
the nearest of those that took their place. Targets are the plan's; that of the lines was set when
the package had 32,700 of them.
"""

from __future__ import annotations

import argparse
import gc
from pathlib import Path

import house_rows as rows
from house_source import read_package

START = "01bb782"
PACKAGE = "mergekit_geo"

ROWS: tuple[tuple[str, rows.Row, float, float | None], ...] = (
    ("options declared more than once", rows.options_repeated, 76, 0),
    ("most places of one option", rows.most_places, 17, 1),
    ("Report( put together in places", rows.reports_made, 10, 1),
    ("errors put into JSON in places", rows.errors_told, 1, 1),
    ("result classes", rows.result_classes, 9, 1),
    ("isinstance(.., EvalData)", rows.data_kinds, 45, 0),
    ("files that rename an output into place", rows.writers, 5, 1),
    ("functions of 8 or more parameters", rows.many_parameters, 32, 6),
    ("imports inside functions", rows.lazy_imports, 259, 59),
    ("files under 60 lines", rows.short_files, 55, 14),
    ("class names with two or more meanings", rows.shared_names, 27, 0),
    ("record types with a twin", rows.twins, 14, 0),
    ("files that draw with matplotlib", rows.matplotlib_files, 3, 1),
    ("files that draw with plotly", rows.plotly_files, 3, 1),
    ("files of a command, median", rows.glue_files, 5, 1),
    ("lines of code in them, median", rows.glue_lines, 331, None),
    ("merge methods only a recipe reaches", rows.recipe_methods, 13, 0),
    ("README lines", rows.readme_lines, 874, 120),
    ("lines of the package", rows.lines, 40_745, 27_500),
    ("lines of code", rows.code_lines, 24_804, None),
    ("lines of code of a function, median", rows.median_function, 5, None),
    ("lines of code of a function, 90th percentile", rows.long_functions, 15, 14),
    ("docstrings whose first line says nothing", rows.empty_docstrings, 251, 0),
    ("imports that break the floors", rows.floors_broken, 11, 0),
)
"""Title, measure, number at the start, and the highest number that reaches the target."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What the redesign must end, measured.")
    parser.add_argument("--verbose", action="store_true", help="List every place of every row.")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], metavar="FOLDER")
    given = parser.parse_args()
    gc.disable()  # trees hold no cycles, and looking for some takes as long as all the rest
    package = read_package(given.root, PACKAGE)
    print(f"{'':46}{'at ' + START:>12}{'now':>10}{'target':>10}  reached")
    for title, measure, start, target in ROWS:
        found = measure(package)
        told = "" if target is None else ("yes" if found.value <= target else "no")
        goal = "" if target is None else f"{target:,g}"
        print(f"{title:46}{start:>12,g}{found.value:>10,g}{goal:>10}  {told}".rstrip())
        if measure is rows.most_places:
            print(f"    {', '.join(found.offenders)}")
        elif given.verbose:
            print("".join(f"    {line}\n" for line in found.offenders), end="")


if __name__ == "__main__":
    main()
