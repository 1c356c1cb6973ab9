"""`geo.point`: a checkpoint from a fitted path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.clock import on_one_clock
from mergekit_geo.commands.merge import merge
from mergekit_geo.commands.request import Request
from mergekit_geo.commands.result import MergeResult
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import EvalData
from mergekit_geo.connectivity.path_folder import PathFolder
from mergekit_geo.outputs.config import OutputConfig
from mergekit_geo.progress import Progress, Silent

if TYPE_CHECKING:
    from mergekit_geo.evaluation.losses import Data

BUILTIN_TEXT = EvalData()


@on_one_clock
def point(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    t: float | None = None,
    output: OutputConfig = OutputConfig(),
    data: Data = BUILTIN_TEXT,
    train_data: EvalData | None = None,
    compute: Compute = Compute(),
    sharpness: str = "quick",
    progress: Progress | None = None,
) -> MergeResult:
    """Write the point at t of a fitted path, and measure it beside the ends.

    Args:
        folder: Of the path, from `geo.fit_path`.
        out: Folder to write; None keeps the result in memory.
        t: Position from 0 to 1; where the held-out loss was lowest if None.
        output: How the checkpoint is written.
        data: What loss is measured on; None measures none.
        train_data: What BatchNorm statistics are estimated on, where a model has some.
        compute: How models are run.
        sharpness: Of ends and output: `off`, `quick` or `full`, as in `geo.sharpness`.
        progress: Told what is going on.

    Raises:
        ArgumentError: t lies outside [0, 1].
        IncompatibleError: An end has changed since the path was fitted.
        GeoError: With the reason and the remedy; nothing is half-written.
    """
    path = PathFolder.open(Path(folder))
    route, place = path.route(), path.record.measured.lowest_t if t is None else t
    rule = route.rule(place)
    checkpoints = open_checkpoints(path.references)
    path.require_ends([checkpoint.fetch() for checkpoint in checkpoints])
    request = Request(
        "point", rule, {"path": str(folder), "t": place}, [f"--t={place}"], output, data, compute,
        sharpness, (), train_data, route=route, t=place, named=(str(folder),),
    )  # fmt: skip
    return merge(checkpoints, request, None if out is None else Path(out), progress or Silent())
