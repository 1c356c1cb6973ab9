"""`geo.slerp`: two models along the arc between them, or the Karcher mean of more."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.checkpoints.reshape.reshape import reshaped
from mergekit_geo.commands._merge import merge
from mergekit_geo.commands._run import Work, command
from mergekit_geo.commands.request import Request
from mergekit_geo.geometry.sphere import slerp_or_karcher
from mergekit_geo.outputs.kind import MERGED
from mergekit_geo.selection.selector import Selector
from mergekit_geo.specs.merges import SlerpSpec

if TYPE_CHECKING:
    from mergekit_geo.geometry.sphere import Antipodal


@command(SlerpSpec)
def slerp(asked: SlerpSpec) -> Work:
    """Merge on the sphere, tensor by tensor, and measure parents and output on the same text.

    A position is that between two models; weights are those of three or more.

    Raises:
        ArgumentError: An invalid setting.
        GeoError: With the reason and the remedy; nothing is half-written.

    Example:
        >>> import torch
        >>> a, b = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}
        >>> slerp([a, b], t=0.5, data=None).state["w"]
        tensor([0.7071, 0.7071])
    """
    antipodal = cast("Antipodal", asked.antipodal)
    rule = slerp_or_karcher(len(asked.models), asked.t, asked.weights, antipodal)
    found = reshaped(open_checkpoints(asked.models), asked.reshape)
    request = Request(asked, Selector(rule), {"weights": list(rule.weights)}).with_reshaped(found)
    return Work(
        asked, lambda output: merge(found.checkpoints, request, output), MERGED, found.checkpoints
    )
