"""`geo.point`: a checkpoint from a fitted path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.commands._merge import merge
from mergekit_geo.commands._run import Work, command
from mergekit_geo.commands.request import Request
from mergekit_geo.connectivity.path_folder import PathFolder
from mergekit_geo.outputs.kind import MERGED
from mergekit_geo.selection.selector import Selector
from mergekit_geo.specs.merges import PointSpec


@command(PointSpec)
def point(asked: PointSpec) -> Work:
    """Write the point at t of a fitted path, and measure it beside the ends.

    Raises:
        ArgumentError: t lies outside [0, 1].
        IncompatibleError: An end has changed since the path was fitted.
        GeoError: With the reason and the remedy; nothing is half-written.

    Example:
        ```python
        import mergekit_geo as geo

        geo.fit_path(
            ["a", "b"], "curve", train_data="train.jsonl", fitting=geo.CurveFitConfig(steps=10)
        )
        geo.point("curve", "out", t=0.4)
        ```
    """
    path = PathFolder.open(Path(asked.folder))
    route, t = path.path(), path.record.measured.lowest_t if asked.t is None else asked.t
    rule = route.rule(t)
    checkpoints = open_checkpoints(path.references)
    path.require_ends([checkpoint.fetch() for checkpoint in checkpoints])
    asked = replace(asked, t=t)
    request = Request(asked, Selector(rule, path=route, t=t), {"path": str(asked.folder)})
    return Work(asked, lambda output: merge(checkpoints, request, output), MERGED, checkpoints)
