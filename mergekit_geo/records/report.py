"""The form of `report.json` and of every command's `--json`, version 1.

The top level is the same for every command; `result` is the command's own. A number that could not
be measured is null, and `not_measured` says why and how to get it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError, field_validator

from mergekit_geo.errors import FormatError, GeoError, NotFoundError
from mergekit_geo.files.regular import read_bytes
from mergekit_geo.files.sound_json import parse_json
from mergekit_geo.records import Record
from mergekit_geo.records.barrier import BarrierMeasurements
from mergekit_geo.records.curvature import SharpnessMeasurements
from mergekit_geo.records.escape import EscapeMeasurements
from mergekit_geo.records.evaluation import EvaluationMeasurements
from mergekit_geo.records.landscape import LandscapeMeasurements
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.model import CheckMeasurements, ModelEntry
from mergekit_geo.records.path import PathMeasurements
from mergekit_geo.records.plan import PlanMeasurements
from mergekit_geo.records.search import SearchMeasurements
from mergekit_geo.records.training import FinetuneMeasurements, MembersMeasurements
from mergekit_geo.records.verdict import Verdict

SCHEMA_VERSION = 1


class NotMeasured(Record):
    """Something a report could hold and does not.

    Attributes:
        what: Key of the result, such as `losses`.
        why: The reason.
        command: The command that measures it, empty where there is none yet.
        failed: Whether it was asked for and failed: the output is whole, and the command exits 1.
    """

    what: str
    why: str
    command: str = ""
    failed: bool = False


class Provenance(Record):
    """Where the numbers come from.

    Attributes:
        versions: Of the libraries.
        started: UTC, ISO 8601.
        seconds: Wall time.
        device: Of the arithmetic of the evaluation.
        dtype: Likewise.
        attention: transformers' name of the attention backend.
        command: The command line that does it again; empty where none can, as with models in
            memory.
    """

    versions: dict[str, str]
    started: str
    seconds: float
    device: str | None = None
    dtype: str | None = None
    attention: str | None = None
    command: str = ""


class ErrorEntry(Record):
    """Why a command failed.

    Attributes:
        type: Name of the exception.
        message: What was expected and what was found.
        where: The model, file or tensor concerned.
        remedy: What mends it.
        problems: Every incompatibility, where that is why.
    """

    type: str
    message: str
    where: str
    remedy: str
    problems: list[str] = []

    @classmethod
    def of(cls, error: GeoError, name: str = "") -> ErrorEntry:
        """The entry of an error.

        Args:
            error: With its place and remedy.
            name: Of the exception, where the error is made of another.
        """
        return cls(
            type=name or type(error).__name__,
            message=error.message,
            where=error.where,
            remedy=error.remedy,
            problems=list(getattr(error, "problems", ())),
        )


class PushMeasurements(Record):
    """What was pushed, after it was compared with what is on the disk.

    Attributes:
        repo: `org/name`.
        commit: The commit that holds it.
        url: Where to look at it.
        pull_request: Its address; null where none was opened.
        files: How many files have the size and hash there that they have on the disk.
        size: Their bytes.
        removed: Weights of an earlier model that the commit removed.
        others: Files of the repository that are not the output's.
    """

    repo: str
    commit: str
    url: str
    pull_request: str | None
    files: int
    size: int
    removed: list[str]
    others: list[str]


class Report(Record):
    """The top level, the same for every command.

    Attributes:
        verdict: What the losses say of an output; where there is one.
        left_out: Files of the donor that the output does not have; where there are any.
    """

    schema_version: int = SCHEMA_VERSION
    command: str
    status: Literal["done", "error"] = "done"
    output: str | None = None
    models: list[ModelEntry] = []
    settings: dict[str, Any] = {}
    data: DataEntry | None = None
    result: (
        MergeMeasurements
        | BarrierMeasurements
        | EvaluationMeasurements
        | PathMeasurements
        | SharpnessMeasurements
        | LandscapeMeasurements
        | FinetuneMeasurements
        | EscapeMeasurements
        | MembersMeasurements
        | CheckMeasurements
        | PushMeasurements
        | PlanMeasurements
        | SearchMeasurements
        | None
    ) = None
    verdict: Verdict | None = None
    warnings: list[str] = []
    not_measured: list[NotMeasured] = []
    left_out: list[str] = []
    provenance: Provenance | None = None
    error: ErrorEntry | None = None
    pushed: PushMeasurements | None = None

    @field_validator("warnings")
    @classmethod
    def _once(cls, warnings: list[str]) -> list[str]:
        """What several parts of a command have to say is said once."""
        return list(dict.fromkeys(warnings))

    def to_json(self) -> str:
        """The text of `report.json`, which is part of what may be pushed afterwards."""
        leave_out = {key for key in ("error", "pushed", "verdict") if getattr(self, key) is None}
        leave_out |= set() if self.left_out else {"left_out"}
        return self.model_dump_json(indent=2, exclude=leave_out) + "\n"


REPORT = "report.json"


def read_report(folder: str | Path) -> Report:
    """The report of an output, or of a measurement.

    Args:
        folder: That holds `report.json`.

    Raises:
        NotFoundError: There is none.
        FormatError: It is of a later version, or damaged.

    Example:
        ```python
        import mergekit_geo as geo

        geo.soup(["a", "b"], "out", data=geo.EvalData("held-out.jsonl"))
        report = geo.read_report("out")
        print({loss.model: loss.loss for loss in report.result.losses})
        ```
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
