"""`geo.push`: an output on the Hub, and the proof that it is what is on the disk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.commands._report import report_of
from mergekit_geo.commands._run import command
from mergekit_geo.commands.result import Result
from mergekit_geo.config.output import Destination
from mergekit_geo.errors import ArgumentError
from mergekit_geo.outputs.verify import links_out, require_finished
from mergekit_geo.progress import Progress
from mergekit_geo.records.report import PushMeasurements, Report, read_report
from mergekit_geo.specs.training import PushSpec

if TYPE_CHECKING:
    from mergekit_geo.config.output import OutputConfig


@command(PushSpec)
def push(asked: PushSpec) -> Result:
    """Push an output to the Hub, and compare sizes and hashes of what arrived.

    The repository is made if it is not there. Weights of an earlier model in it are removed by the
    same commit; other files stay. The same call goes on with a push that broke off.

    Raises:
        ArgumentError: No repository can have this name, or a pull request on a branch.
        PushError: The folder is no whole output, or the Hub does not take it; the folder is
            untouched.
    """
    to = Destination(asked.repo, asked.private, asked.revision, asked.create_pr)
    began, source = time.time(), Path(asked.folder)
    found = _pushed(source, to, asked.token, asked.told)
    unchanged = asked.create_pr and found.pull_request is None
    nothing = ["the repository holds all of it already: no pull request"] if unchanged else []
    warnings = [*nothing, *_warnings(found), *_link_warnings(source)]
    settings = {"repo": to.repo}
    return Result(
        report_of(asked, found, (), began, settings=settings, warnings=warnings, output=str(source))
    )


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
