"""`geo.soup`: the weighted average of models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.linear import Linear, check_weights, normalized
from mergekit_geo.merging.settings import Output
from mergekit_geo.objectives.settings import Compute, EvalData
from mergekit_geo.progress import Progress, Silent
from mergekit_geo.workflows.merge import merge
from mergekit_geo.workflows.request import Request
from mergekit_geo.workflows.result import MergeResult

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model

BUILTIN_TEXT = EvalData()


def soup(
    models: Sequence[Model],
    out: str | Path | None = None,
    *,
    weights: Sequence[float] | None = None,
    normalize: bool = True,
    output: Output = Output(),
    data: EvalData | None = BUILTIN_TEXT,
    compute: Compute = Compute(),
    sharpness: str = "off",
    progress: Progress | None = None,
) -> MergeResult:
    """Average models (Wortsman 2022), and measure parents and soup on the same text.

    Args:
        models: Folders, Hub ids, modules or state dicts; the first is the donor of configuration,
            tokenizer and integer tensors.
        out: Folder to write; None keeps the result in memory.
        weights: One per model; equal ones if None.
        normalize: Divide the weights by their sum.
        output: How the checkpoint is written.
        data: What loss is measured on; None measures none.
        compute: How models are run.
        sharpness: `off`; this version measures none.
        progress: Told what is going on.

    Raises:
        ArgumentError: Weights that cannot be meant, or no models.
        GeoError: With the reason and the remedy; nothing is half-written.

    Example:
        >>> import torch
        >>> a, b = {"w": torch.tensor([0.0, 2.0])}, {"w": torch.tensor([4.0, 2.0])}
        >>> soup([a, b], weights=[3, 1], data=None).state["w"]
        tensor([1., 2.])
    """
    if not models:
        raise ArgumentError("no models to merge", remedy="name at least one")
    checkpoints = open_checkpoints(models)
    checked = check_weights(len(models), weights)
    used = normalized(checked) if normalize else checked
    negative = tuple(f"weight {weight:g} is negative" for weight in checked if weight < 0)
    flags = [] if weights is None else [f"--weights={','.join(map(repr, checked))}"]
    flags += [] if normalize else ["--no-normalize"]
    settings = {"weights": list(checked), "normalize": normalize}
    request = Request(
        "soup", Linear(used), settings, flags, output, data, compute, sharpness, negative
    )
    return merge(checkpoints, request, None if out is None else Path(out), progress or Silent())
