"""The Gram matrix of whole models, their geometry layer by layer, and what a layer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.layers import NUMBERED
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend, Role
from mergekit_geo.merging.stream import stream
from mergekit_geo.records.model import Geometry, LayerGeometry, PairGeometry


def gram_of(blend: Blend, *, allow_nonfinite: bool = True) -> Gram:
    """Gram matrix of a blend's anchors over all parameters, in one pass over the data.

    Tensors are summed in their order, whichever was done first: so the bits are always the same.

    Raises:
        NonFiniteError: An anchor holds NaN or infinity and may not.
    """
    first, *rest = _grams(blend, allow_nonfinite=allow_nonfinite).values()
    return sum(rest, start=first)


def geometry_of(anchors: Sequence[Checkpoint]) -> Geometry | None:
    """Where models lie, layer by layer, in one pass over their tensors.

    None for models without parameters.
    """
    weights = (1.0, *[0.0] * (len(anchors) - 1))
    return summarize(_grams(Blend(tuple(anchors), Linear(weights))))


def _grams(blend: Blend, *, allow_nonfinite: bool = True) -> dict[str, Gram]:
    """Gram matrix of each parameter, in their order."""
    records = stream(blend, _Nowhere(), allow_nonfinite=allow_nonfinite)
    parameters = [name for name in blend.outputs() if blend.role(name) is Role.PARAMETER]
    return {name: gram for name in parameters if (gram := records[name].gram) is not None}


class _Nowhere:
    """A sink that keeps nothing."""

    def write(self, name: str, position: int, data: Bytes) -> None:
        """Discard the data."""


def layer_of(tensor: str) -> str:
    """The layer a tensor belongs to.

    Example:
        >>> layer_of("model.layers.7.mlp.up_proj.weight"), layer_of("lm_head.weight")
        ('model.layers.7', 'lm_head')
    """
    found = NUMBERED.match(tensor)
    return found[0] if found else tensor.rpartition(".")[0] or tensor


def group_of(tensor: str, granularity: str) -> str:
    """The group that a tensor is in; the whole model is one group without a name.

    Example:
        >>> group_of("lm_head.weight", "tensor"), group_of("lm_head.weight", "model")
        ('lm_head.weight', '')
    """
    if granularity == "layer":
        return layer_of(tensor)
    return tensor if granularity == "tensor" else ""


def summarize(grams: Mapping[str, Gram]) -> Geometry | None:
    """Sum the Gram matrices of tensors by layer and over all; None if there are none."""
    layers: dict[str, Gram] = {}
    for tensor, gram in grams.items():
        layer = layer_of(tensor)
        layers[layer] = layers[layer] + gram if layer in layers else gram
    if not layers:
        return None
    first, *rest = layers.values()
    total = sum(rest, start=first)
    return Geometry(
        total=_entry("all", total), layers=[_entry(name, gram) for name, gram in layers.items()]
    )


def _entry(layer: str, gram: Gram) -> LayerGeometry:
    size = len(gram.norms)
    pairs = [_pair(gram, i, j) for i in range(size) for j in range(i + 1, size)]
    return LayerGeometry(
        layer=layer, parameters=gram.count, norms=[float(n) for n in gram.norms], pairs=pairs
    )


def _pair(gram: Gram, i: int, j: int) -> PairGeometry:
    defined = bool(gram.norms[i] > 0 and gram.norms[j] > 0)
    return PairGeometry(
        first=i,
        second=j,
        cosine=float(gram.cosines[i, j]) if defined else None,
        angle=float(gram.angles[i, j]) if defined else None,
        distance=float(gram.distances[i, j]),
    )
