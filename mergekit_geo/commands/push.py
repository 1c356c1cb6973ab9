"""`geo.push`: an output on the Hub, and the proof that it is what is on the disk."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.origin import provenance
from mergekit_geo.errors import ArgumentError
from mergekit_geo.outputs.destination import Destination
from mergekit_geo.outputs.verify import links_out, require_finished
from mergekit_geo.progress import Progress, Silent
from mergekit_geo.records.push import PushMeasurements
from mergekit_geo.records.reading import read_report
from mergekit_geo.records.report import Report

if TYPE_CHECKING:
    from mergekit_geo.outputs.config import OutputConfig


@dataclass(frozen=True)
class PushResult:
    """An output on the Hub.

    Attributes:
        report: What was pushed, and where it is.
    """

    report: Report

    @property
    def measurements(self) -> PushMeasurements:
        """The result part of the report."""
        assert isinstance(self.report.result, PushMeasurements)
        return self.report.result

    @property
    def url(self) -> str:
        """Address of the output on the Hub."""
        return self.measurements.url

    def __str__(self) -> str:
        return f"{self.report.output} -> {self.url} at {self.measurements.commit}"


def push(
    folder: str | Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
    progress: Progress | None = None,
) -> PushResult:
    """Push an output to the Hub, and compare sizes and hashes of what arrived.

    The repository is made if it is not there. Weights of an earlier model in it are removed by the
    same commit; other files stay. The same call goes on with a push that broke off.

    Args:
        folder: Of a merge, or of a fine-tuned model.
        repo: `org/name`, or `name` for a repository of one's own.
        private: Make the repository private; one that is public already is refused.
        revision: Branch to commit to, made if it is not there, or `refs/pr/N`; the main one if
            None.
        create_pr: Open a pull request instead.
        token: For the Hub; the one of `hf auth login` or HF_TOKEN if None. It is not kept.
        progress: Told what is going on.

    Raises:
        ArgumentError: No repository can have this name, or a pull request on a branch.
        PushError: The folder is no whole output, or the Hub does not take it; the folder is
            untouched.
    """
    to = Destination(repo, private, revision, create_pr)
    began, source, told = time.time(), Path(folder), progress or Silent()
    found = _pushed(source, to, token, told)
    unchanged = create_pr and found.pull_request is None
    nothing = ["the repository holds all of it already: no pull request"] if unchanged else []
    report = Report(
        command="push",
        output=str(source),
        settings=asdict(to),
        result=found,
        warnings=[*nothing, *_warnings(found), *_link_warnings(source)],
        provenance=provenance(began),
    )
    return PushResult(report)


def prepare_push(output: OutputConfig, out: Path | None) -> None:
    """Check, before a merge begins, that its output can be pushed.

    Raises:
        ArgumentError: It would be kept in memory.
        PushError: There is no token that may write, or nobody answers.
    """
    if output.push_to is None:
        return
    if out is None:
        raise ArgumentError("only an output in a folder can be pushed", remedy="give out=")
    from mergekit_geo.outputs.upload import check_access

    check_access(_destination(output))


def push_output(report: Report, output: OutputConfig, progress: Progress, *, holds: bool) -> Report:
    """Push an output that is whole on the disk, if that was asked for.

    Args:
        report: Of the output.
        output: Where it is to be pushed, and what it must hold for that.
        progress: Told what is going on.
        holds: Whether it is not worse than what it came from.

    Returns:
        The report, with `pushed`; the files on the disk stay as they are on the Hub.

    Raises:
        PushError: The Hub does not take it; the output on the disk is whole.
    """
    if output.push_to is None or report.output is None:
        return report
    if output.require is not None and not holds:
        warning = f"not pushed: the output does not hold --require {output.require}"
        return report.model_copy(update={"warnings": [*report.warnings, warning]})
    to = _destination(output)
    try:
        found = _pushed(Path(report.output), to, None, progress)
    except BaseException as stop:  # such as Ctrl-C: what is told then is the last note
        again = to.command(Path(report.output))
        stop.add_note(f"{report.output} is whole, and {again} goes on")
        raise
    warnings = [*report.warnings, *_warnings(found), *_link_warnings(Path(report.output))]
    return report.model_copy(update={"pushed": found, "warnings": warnings})


def _destination(output: OutputConfig) -> Destination:
    assert output.push_to is not None
    return Destination(output.push_to, output.private)


def _pushed(
    folder: Path, to: Destination, token: str | None, progress: Progress
) -> PushMeasurements:
    files = require_finished(folder)
    read_report(folder)
    from mergekit_geo.outputs.upload import upload

    return upload(folder, files, to, token, progress)


def _link_warnings(folder: Path) -> list[str]:
    links = links_out(folder)
    return [f"not pushed, as they are links out of {folder}: {', '.join(links)}"] if links else []


def _warnings(found: PushMeasurements) -> list[str]:
    """What a user should know of the repository."""
    warnings = []
    if found.removed:
        warnings.append(f"weights of an earlier model were removed: {', '.join(found.removed)}")
    if found.others:
        warnings.append(f"the repository holds other files too: {', '.join(found.others)}")
    return warnings
