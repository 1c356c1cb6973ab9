"""A report that was written before."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from mergekit_geo.errors import FormatError, NotFoundError
from mergekit_geo.files.regular import read_bytes
from mergekit_geo.files.sound_json import parse_json
from mergekit_geo.records.report import SCHEMA_VERSION, Report

REPORT = "report.json"


def read_report(folder: str | Path) -> Report:
    """The report of an output, or of a measurement.

    Args:
        folder: That holds `report.json`.

    Raises:
        NotFoundError: There is none.
        FormatError: It is of a later version, or damaged.
    """
    path = Path(folder) / REPORT
    if not path.is_file():
        raise NotFoundError(
            f"no {REPORT}: this is no output of geo-merge", where=str(folder), remedy="give its -o"
        )
    try:
        data = read_bytes(path)
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if (version := _version(data)) > SCHEMA_VERSION:
        raise FormatError(
            f"a report of schema version {version}; this release reads {SCHEMA_VERSION}",
            where=str(folder),
            remedy="a newer mergekit_geo reads it: pip install --upgrade mergekit_geo",
        )
    try:
        return Report.model_validate_json(data)
    except ValidationError as error:
        raise FormatError(
            f"not a sound {REPORT}: {error.errors()[0]['msg']}", where=str(folder)
        ) from error


def _version(data: bytes) -> int:
    """0 where it tells none."""
    try:
        found = parse_json(data.decode())["schema_version"]
    except (ValueError, KeyError, TypeError):
        return 0
    return found if isinstance(found, int) else 0
