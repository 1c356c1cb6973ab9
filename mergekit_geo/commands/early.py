"""Refusals that need no work, before anything is downloaded, fitted, trained or merged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.left_out import refuse_foreign_needs
from mergekit_geo.checkpoints.modules import mergeable
from mergekit_geo.commands._push import prepare_push
from mergekit_geo.data.load import load_rows
from mergekit_geo.errors import ArgumentError
from mergekit_geo.merging.blend import has_statistics
from mergekit_geo.selection.selector import check_selection

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.checkpoints.comparison import Preflight
    from mergekit_geo.config.output import OutputConfig
    from mergekit_geo.config.selection import SelectionConfig
    from mergekit_geo.evaluation.study import Study
    from mergekit_geo.specs.spec import Writing


def check_early(
    checkpoints: Sequence[Checkpoint],
    asked: Writing,
    selection: SelectionConfig,
    *,
    by_layers: bool = False,
) -> Preflight:
    """Refuse what headers and settings alone show to be impossible; the output has seen its place.

    Args:
        checkpoints: The models.
        asked: The command's options.
        selection: How the point is found.
        by_layers: Whether single layers are taken of them, so that their depths may differ.

    Raises:
        GeoError: With the reason and the remedy.
    """
    found = mergeable(checkpoints, by_layers=by_layers)
    found.require()
    if asked.target is not None:
        refuse_foreign_needs(checkpoints[0])
    check_selection(selection, len(checkpoints), asked.data)
    prepare_push(asked.output, asked.target)
    return found


def check_scores(study: Study, output: OutputConfig) -> None:
    """Refuse to require something of a score that there is not.

    Args:
        study: What is measured.
        output: Says what is required.

    Raises:
        ArgumentError: The task of a set has no metric.
    """
    wanted = output.requirement
    if wanted is None or wanted.by != "score":
        return
    for one in study.sets:
        asked = not wanted.sets or not study.further or one.name in wanted.sets
        if asked and one.sample is not None and not one.sample.objective.task.metric:
            raise ArgumentError(
                f"require {output.require!r}: {one.sample.objective.task.name} has no score",
                where=one.name,
                remedy="not-worse@loss, or name other sets",
            )


def check_statistics_data(study: Study) -> None:
    """Refuse data that BatchNorm statistics could not be estimated on.

    Raises:
        DataError: It is missing or unusable.
    """
    if study.statistics_data is not None and has_statistics(study.models[0].tensors):
        load_rows(study.statistics_data)
