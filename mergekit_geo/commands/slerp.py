"""`geo.slerp`: two models along the arc between them, or the Karcher mean of more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.clock import on_one_clock
from mergekit_geo.commands.merge import merge
from mergekit_geo.commands.request import Request
from mergekit_geo.commands.result import MergeResult
from mergekit_geo.commands.soup import BUILTIN_TEXT
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import EvalData
from mergekit_geo.geometry.sphere import Antipodal, slerp_or_karcher
from mergekit_geo.outputs.config import OutputConfig
from mergekit_geo.progress import Progress, Silent

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.evaluation.losses import Data


@on_one_clock
def slerp(
    models: Sequence[Model],
    out: str | Path | None = None,
    *,
    t: float | None = None,
    weights: Sequence[float] | None = None,
    antipodal: Antipodal = "error",
    output: OutputConfig = OutputConfig(),
    data: Data = BUILTIN_TEXT,
    train_data: EvalData | None = None,
    compute: Compute = Compute(),
    sharpness: str = "quick",
    progress: Progress | None = None,
) -> MergeResult:
    """Merge on the sphere, tensor by tensor, and measure parents and output on the same text.

    Args:
        models: Two or more folders, Hub ids, modules or state dicts; the first is the donor.
        out: Folder to write; None keeps the result in memory.
        t: Position between two models, 0.5 if None.
        weights: One per model, for three or more; equal ones if None.
        antipodal: What to do with opposite tensors: `error` or `linear`.
        output: How the checkpoint is written.
        data: What loss is measured on; None measures none.
        train_data: What BatchNorm statistics are estimated on, where a model has some.
        compute: How models are run.
        sharpness: Of parents and output: `off`, `quick` or `full`, as in `geo.sharpness`.
        progress: Told what is going on.

    Raises:
        ArgumentError: An invalid setting.
        GeoError: With the reason and the remedy; nothing is half-written.

    Example:
        >>> import torch
        >>> a, b = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}
        >>> slerp([a, b], t=0.5, data=None).state["w"]
        tensor([0.7071, 0.7071])
    """
    rule = slerp_or_karcher(len(models), t, weights, antipodal)
    settings = {"t": t, "weights": list(rule.weights), "antipodal": antipodal}
    flags = [] if t is None else [f"--t={t}"]
    flags += [] if weights is None else [f"--weights={','.join(map(repr, weights))}"]
    flags += [] if antipodal == "error" else [f"--antipodal={antipodal}"]
    request = Request(
        "slerp", rule, settings, flags, output, data, compute, sharpness, (), train_data
    )
    checkpoints = open_checkpoints(models)
    return merge(checkpoints, request, None if out is None else Path(out), progress or Silent())
