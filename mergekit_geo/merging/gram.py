"""The Gram matrix of whole models."""

from __future__ import annotations

from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.merging.blend import Blend, Role
from mergekit_geo.merging.stream import stream


def gram_of(blend: Blend, *, allow_nonfinite: bool = True) -> Gram:
    """Gram matrix of a blend's anchors over all parameters, in one pass over the data.

    Tensors are summed in their order, whichever was done first: so the bits are always the same.

    Raises:
        NonFiniteError: An anchor holds NaN or infinity and may not.
    """
    records = stream(blend, _Nowhere(), allow_nonfinite=allow_nonfinite)
    parameters = [name for name in blend.outputs() if blend.role(name) is Role.PARAMETER]
    grams = [gram for name in parameters if (gram := records[name].gram) is not None]
    return sum(grams[1:], start=grams[0])


class _Nowhere:
    """A sink that keeps nothing."""

    def write(self, name: str, position: int, data: Bytes) -> None:
        """Discard the data."""
