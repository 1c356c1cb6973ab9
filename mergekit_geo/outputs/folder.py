"""The folder of a measurement: report and pictures, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.sources import folders_of
from mergekit_geo.outputs.kind import REPORT, Kind
from mergekit_geo.outputs.workspace import Workspace, check_output, partial_of
from mergekit_geo.outputs.writer import output_errors
from mergekit_geo.processes import main_process_first
from mergekit_geo.records.report import Report
from mergekit_geo.views.files import FIGURES, PAGE, write_report


def measurement(
    command: str, figures: Iterable[str], mark: str = REPORT, beside: Iterable[str] = ()
) -> Kind:
    """The kind of output that a measurement makes: no weights are in it, and nothing else.

    Args:
        command: What measures.
        figures: All that it can draw.
        mark: The file that tells one.
        beside: What else it holds.
    """
    held = (REPORT, PAGE, mark, *beside, *(f"{FIGURES}/{name}" for name in figures))
    return Kind(mark, command, frozenset(held))


CURVES = ("barrier.csv", "barrier.png", "barrier.svg")
BARRIER = measurement("barrier", (*CURVES, "matrix.png", "matrix.svg"))
SHARPNESS = measurement(
    "sharpness", ("sharpness.png", "sharpness.svg", "spectrum.png", "spectrum.svg")
)
LANDSCAPE = measurement(
    "landscape", ("landscape.npz", "landscape.png", "landscape.svg", "landscape.html")
)


class MeasuredFolder:
    """The folder of a measurement while it is made: the first process has it to itself.

    Args:
        out: Where it will be; None writes nothing.
        kind: What is measured: only an earlier output of the same is replaced.
        overwrite: Replace that.
        keep: Files that an interrupted run leaves for the next, and the output does not hold.

    Attributes:
        out: As given.
        partial: What it is until then; None writes nothing.

    Raises:
        OutputExistsError: Something is there that may not be replaced.
        OutputError: Another run is writing it, or it cannot be made.
    """

    def __init__(
        self, out: str | Path | None, kind: Kind, *, overwrite: bool, keep: tuple[str, ...]
    ) -> None:
        self.out = None if out is None else Path(out)
        self.partial = None if self.out is None else partial_of(self.out)
        self._kind, self._overwrite, self._keep = kind, overwrite, keep
        self._workspace: Workspace | None = None
        if self.out is not None:
            main_process_first(self._open)

    def refuse_inputs(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Refuse a place where an input lies.

        Raises:
            OutputError: One does.
        """
        if self.out is not None:
            folders = folders_of(checkpoints)
            check_output(self.out, folders, overwrite=self._overwrite, kind=self._kind)

    def write(
        self,
        report: Report,
        fill: Callable[[Path], object] = lambda folder: None,
        needed: int = 0,
    ) -> None:
        """Write the report and the rest, and make the folder appear.

        Args:
            report: The numbers; pictures are drawn from them.
            fill: Given the folder, writes what else belongs there.
            needed: Bytes of that, where they are many.

        Raises:
            OutputError: It cannot be written.
        """
        if self._workspace is None:
            return
        folder = self._workspace.folder
        with output_errors(self._workspace.out.parent, needed):
            write_report(report, folder)
            fill(folder)
            self._workspace.publish(spare=self._keep)
        self._workspace = None

    def leave(self) -> None:
        """Stop: keep what the next run can continue with, and remove everything else."""
        work = self._workspace
        if work is None:
            return
        if any((work.folder / name).exists() for name in self._keep):
            work.leave()
        else:
            work.discard()

    def _open(self) -> None:
        assert self.out is not None
        self._workspace = Workspace(
            self.out, [], overwrite=self._overwrite, kind=self._kind, keep=self._keep
        )


@contextmanager
def measured_folder(
    out: str | Path | None, kind: Kind, *, overwrite: bool, keep: tuple[str, ...] = ()
) -> Iterator[MeasuredFolder]:
    """Open a `MeasuredFolder`, and leave it at the end, after an error too."""
    folder = MeasuredFolder(out, kind, overwrite=overwrite, keep=keep)
    try:
        yield folder
    finally:
        folder.leave()
