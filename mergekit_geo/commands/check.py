"""`geo.check`: what a model consists of, and whether models belong together; from headers."""

from __future__ import annotations

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.left_out import donor_files
from mergekit_geo.checkpoints.modules import mergeable
from mergekit_geo.checkpoints.origin import model_entries
from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.checkpoints.reshape.reshape import reshaped
from mergekit_geo.commands._run import Findings, Work, command
from mergekit_geo.commands.parts import part_entries
from mergekit_geo.errors import ArgumentError, IncompatibleError
from mergekit_geo.outputs.output import Output
from mergekit_geo.records.model import CheckMeasurements, FilesEntry
from mergekit_geo.specs.measures import CheckSpec


@command(CheckSpec)
def check(asked: CheckSpec) -> Work:
    """Tell the parts of models, and compare them with the first, downloading no weights.

    Raises:
        ArgumentError: No models.
        CheckpointError: One of them cannot be used.

    Example:
        >>> import torch
        >>> print(check([{"w": torch.ones(2)}, {"w": torch.ones(3)}]))
        the models cannot be merged
        w is [2] in model 1 (in memory) and [3] in model 2 (in memory): models of different sizes
    """
    if not asked.models:
        raise ArgumentError("no models to check", remedy="name at least one")
    fitted = reshaped(open_checkpoints(asked.models), asked.reshape)
    checkpoints = fitted.checkpoints

    def do(output: Output) -> Findings:
        found = mergeable(checkpoints)
        if found.anchors and all(checkpoint.is_local for checkpoint in checkpoints):
            found.compare_values()
        record = CheckMeasurements(
            compatible=not found.problems,
            tensors=len(checkpoints[0].tensors),
            notes=[*fitted.notes, *found.notes],
            problems=found.problems,
            parts=part_entries(checkpoints, found),
            files=_files(checkpoints[0]),
        )
        no = IncompatibleError(found.problems) if found.problems else None
        return Findings(
            record,
            model_entries(checkpoints),
            warnings=[*fitted.warnings, *found.warnings],
            error=no,
        )

    return Work(asked, do)


def _files(donor: Checkpoint) -> FilesEntry | None:
    """What becomes of the first model's files; None for a model in memory."""
    found = donor_files(donor)
    entry = FilesEntry(
        model=donor.name, merged=found.merged, copied=found.copied, left_out=found.left_out
    )
    return entry if found.merged else None
