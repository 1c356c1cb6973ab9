"""Soups beside one another: losses, barriers and sharpness of members and soup, as a table.

Members have their mean and, behind ±, half of the range. All numbers are those of `report.json`.

Usage: python benchmarks/soups_table.py SOUP...     # outputs of geo-merge soup
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.report import Report

WIDE = 140
HEAD = ("", "loss", "highest barrier", "λ_max", "SAM sharpness", "|gradient|", "|weights|")


def rows_of(folder: Path) -> list[list[str]]:
    """Members together, then their soup."""
    found = Report.model_validate_json((folder / "report.json").read_bytes()).result
    assert isinstance(found, MergeMeasurements)
    barriers = [entry.barrier.value or 0.0 for entry in found.barriers]
    numbers = [
        [entry.loss for entry in found.losses],
        [entry.extremes.largest.value for entry in found.sharpness],
        [entry.sam_sharpness for entry in found.sharpness],
        [entry.slope.gradient_norm for entry in found.sharpness],
        [entry.slope.parameter_norm for entry in found.sharpness],
    ]
    loss, *sharp = [spread(column[:-1]) for column in numbers]
    soup_loss, *soup_sharp = [f"{column[-1]:.4g}" for column in numbers]
    name = folder.name.removesuffix("-soup")
    return [
        [f"{name}, {len(found.losses) - 1} members", loss, f"{max(barriers):+.4f}", *sharp],
        [f"{name}, soup", soup_loss, "", *soup_sharp],
    ]


def spread(numbers: Sequence[float]) -> str:
    """Mean ± half of the range."""
    mean = sum(numbers) / len(numbers)
    return f"{mean:.4g} ± {(max(numbers) - min(numbers)) / 2:.1g}"


def main(folders: Sequence[str]) -> None:
    """Print the table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in HEAD:
        table.add_column(name, justify="right" if name else "left")
    for folder in folders:
        for row in rows_of(Path(folder)):
            table.add_row(*row)
    Console(width=WIDE, highlight=False).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
