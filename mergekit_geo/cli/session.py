"""One run of a command: where its progress, results and errors go, and its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from mergekit_geo.cli.stopping import Stopped, code, finished, is_stopped, line, working
from mergekit_geo.errors import GeoError, IncompatibleError, InternalError
from mergekit_geo.printable import printable, printable_json, shortened
from mergekit_geo.progress import DOWNLOAD_BARS

if TYPE_CHECKING:
    from mergekit_geo.cli.progress import Shown
    from mergekit_geo.records.report import Report
    from mergekit_geo.specs.panels import Verbosity

FAILED = 1


class Session:
    """One run of a command: its progress, output and exit code.

    Args:
        command: Its name.
        talk: JSON or tables, quiet or not.
    """

    def __init__(self, command: str, talk: Verbosity) -> None:
        self.command, self.as_json = command, talk.json
        self.is_first = os.environ.get("WORLD_SIZE", "1") == "1" or not _is_later()
        self.quiet = talk.quiet or not self.is_first
        self._shown: Shown | None = None
        if talk.quiet or not sys.stderr.isatty():
            # Read by the hub client when it is imported, which no command has done yet.
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        else:
            DOWNLOAD_BARS.set()

    def progress(self) -> Shown:
        """The progress that a command's work reports to."""
        from mergekit_geo.cli.progress import console_progress

        self._shown = console_progress(quiet=self.quiet)
        return self._shown

    def end_progress(self) -> None:
        """End the progress, leaving the terminal as it was."""
        if self._shown is not None:
            self._shown.close()

    def show(self, report: Report) -> None:
        """Print the result on stdout and warnings on stderr, in the main process only.

        Raises:
            typer.Exit: 1, where a measurement that was asked for has failed.
        """
        finished()
        if self.is_first:
            self._print(report)
        failed = [item for item in report.not_measured if item.failed]
        for item in failed if self.is_first else []:
            place = f"{report.output} is complete; " if report.output else ""
            text = f"geo-merge {self.command}: {place}{item.what} not measured: {item.why}"
            typer.echo(printable(text), err=True)
        if failed:
            raise typer.Exit(FAILED)

    def _print(self, report: Report) -> None:
        if self.as_json:
            typer.echo(printable_json(report.to_json()), nl=False)
            return
        from mergekit_geo.views.console import print_report

        print_report(report)

    def gate(self, unmet: str, code: int) -> None:
        """Exit, after everything is shown, where what an option asks for does not hold.

        Args:
            unmet: What does not hold, such as `--require not-worse`; empty where all does.
            code: To exit with.

        Raises:
            typer.Exit: Something does not hold.
        """
        if not unmet:
            return
        if self.is_first and unmet.startswith("--"):
            typer.echo(f"geo-merge {self.command}: {unmet}: not satisfied", err=True)
        raise typer.Exit(code)

    def fail(self, error: Exception) -> None:
        """Print an error as one line on stderr, and as JSON on stdout if that is asked for."""
        if not self.is_first:
            return
        known = error if isinstance(error, GeoError) else _unexpected(error)
        if self.as_json:
            from mergekit_geo.records.report import ErrorEntry, Report

            kind = type(known if isinstance(known, InternalError) else error)
            entry = ErrorEntry.of(known, kind.__name__)
            report = Report(command=self.command, status="error", error=entry)
            typer.echo(printable_json(report.to_json()), nl=False)
        said = f"{' '.join(filter(None, ('geo-merge', self.command)))}: {known}"
        lines = said.split("\n") if isinstance(known, IncompatibleError) else [said]
        typer.echo("\n".join(shortened(printable(line)) for line in lines), err=True)


@contextmanager
def session(
    command: str, talk: Verbosity, *, again: str = "the same command continues"
) -> Iterator[Session]:
    """Turn errors into lines and exit codes.

    Args:
        command: Its name.
        talk: JSON or tables, quiet or not.
        again: What to do after an interrupt.

    Raises:
        typer.Exit: 1 after an error, 130 after an interrupt, 143 after SIGTERM.
    """
    current = Session(command, talk)
    try:
        with working(again):
            try:
                yield current
            finally:
                current.end_progress()
    except (KeyboardInterrupt, Stopped) as stop:
        raise _interrupted(stop) from None
    except typer.Exit:
        raise
    except Exception as error:
        if is_stopped():  # something took `Stopped` for an error of its own
            raise _interrupted(error) from None
        current.fail(error)
        if talk.debug:
            raise
        raise typer.Exit(FAILED) from None
    finally:
        sys.stdout.flush()


def _interrupted(stop: BaseException) -> typer.Exit:
    """The exit after a signal, with a note on what continues the work, if there is one."""
    notes = getattr(stop, "__notes__", [""])
    typer.echo(line(notes[-1]), err=True, nl=False)
    return typer.Exit(code())


def _is_later() -> bool:
    """Whether this is a process other than the main one."""
    rank = os.environ.get("RANK", "0")
    return rank.isdecimal() and int(rank) > 0


def _unexpected(error: Exception) -> GeoError:
    """Convert any other error: of the operating system, of memory, or a bug of ours."""
    if isinstance(error, OSError) and error.strerror:
        return GeoError(error.strerror, where=str(error.filename or ""))
    if isinstance(error, MemoryError):
        return GeoError("out of memory", remedy="a larger machine, or smaller inputs")
    return InternalError.of(error)
