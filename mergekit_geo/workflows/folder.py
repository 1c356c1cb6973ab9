"""The folder of a measurement: report and pictures, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from mergekit_geo.errors import OutputExistsError
from mergekit_geo.reports.html_report import write_report
from mergekit_geo.reports.reading import REPORT
from mergekit_geo.reports.schema import Report


def free_folder(out: str | Path | None, *, overwrite: bool, mark: str = REPORT) -> Path | None:
    """Where a measurement may be written.

    Args:
        out: Where it is asked for; None writes nothing.
        overwrite: Replace an earlier one.
        mark: The file that tells one.

    Raises:
        OutputExistsError: Something is there, and it may not or cannot be replaced.
    """
    if out is None:
        return None
    folder = Path(out)
    if folder.exists() and not (overwrite and (folder / mark).is_file()):
        raise OutputExistsError(
            "the output folder exists",
            where=str(folder),
            remedy="--overwrite replaces an earlier one; or give another folder",
        )
    return folder


def write_folder(report: Report, folder: Path, draw: Callable[[Path], None]) -> None:
    """Report and pictures.

    Args:
        report: The numbers.
        folder: Where they go; an earlier one is replaced.
        draw: Fills the folder of the pictures.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "figures").mkdir(parents=True)
    write_report(report, partial)
    draw(partial / "figures")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
