"""An output that is pushed to the Hub once it is whole on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mergekit_geo.checkpoints.content import EXAMPLES
from mergekit_geo.config.output import Destination, OutputConfig
from mergekit_geo.errors import ArgumentError
from mergekit_geo.files.replacement import replacing
from mergekit_geo.outputs.upload import check_access, upload
from mergekit_geo.outputs.verify import links_out, require_finished
from mergekit_geo.outputs.writer import output_errors
from mergekit_geo.progress import Progress
from mergekit_geo.records.report import REPORT, PushMeasurements, Report, read_report
from mergekit_geo.views.files import PAGE, write_page
from mergekit_geo.views.private_texts import is_all_public, without_private_texts


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
    check_access(_destination(output))


def push_output(report: Report, output: OutputConfig, progress: Progress, *, holds: bool) -> Report:
    """Push an output that is whole on the disk, if that was asked for.

    Args:
        report: Of the output.
        output: Where it is to be pushed, and what it must hold for that.
        progress: Told what is going on.
        holds: Whether it holds what is required.

    Returns:
        The report, with `pushed`; the files on the disk stay as they are on the Hub.

    Raises:
        PushError: The Hub does not take it; the output on the disk is whole.
    """
    if output.push_to is None or report.output is None:
        return report
    if not holds:
        warning = f"not pushed: the output does not satisfy --require {output.require}"
        return report.model_copy(update={"warnings": [*report.warnings, warning]})
    to = _destination(output)
    try:
        found = pushed(Path(report.output), to, None, progress)
    except BaseException as stop:  # such as Ctrl-C: what is told then is the last note
        again = to.command(Path(report.output))
        stop.add_note(f"{report.output} is complete; {again} continues")
        raise
    warnings = [*report.warnings, *push_warnings(Path(report.output), found)]
    return report.model_copy(update={"pushed": found, "warnings": warnings})


def _destination(output: OutputConfig) -> Destination:
    assert output.push_to is not None
    return Destination(output.push_to, output.private)


def pushed(
    folder: Path, to: Destination, token: str | None, progress: Progress
) -> PushMeasurements:
    files = publishable(folder, require_finished(folder), progress)
    return upload(folder, files, to, token, progress)


def publishable(folder: Path, files: Sequence[Path], progress: Progress) -> list[Path]:
    """The files that are pushed: no text of data that is neither built in nor on the Hub.

    Report and page lose such texts, which stay in the file of examples beside them.
    """
    report = read_report(folder)
    bare = without_private_texts(report)
    if bare is not report:
        with output_errors(folder, 0):
            with replacing(folder / REPORT, f"{REPORT}.new") as fresh:
                fresh.write_text(bare.to_json(), "utf-8")
            with replacing(folder / PAGE, f"{PAGE}.new") as fresh:
                write_page(bare, fresh)
        progress.say(f"report and page have no texts of examples any more: {EXAMPLES} has them")
    if is_all_public(report):
        return list(files)
    return [file for file in files if file.name != EXAMPLES]


def push_warnings(folder: Path, found: PushMeasurements) -> list[str]:
    """What a user should know of the repository, and of files that it does not hold."""
    warnings = []
    if found.removed:
        warnings.append(f"weights of an earlier model were removed: {', '.join(found.removed)}")
    if found.others:
        warnings.append(f"the repository holds other files too: {', '.join(found.others)}")
    if links := links_out(folder):
        warnings.append(f"not pushed, as they are links out of {folder}: {', '.join(links)}")
    return warnings
