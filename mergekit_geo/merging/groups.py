"""Tensors that belong together: all of a model, of a layer, or each by itself."""

from __future__ import annotations

import re

NUMBERED = re.compile(r"(.*?\.)?(layers?|h|blocks?|stages|encoder|decoder)\.\d+(?=\.)")


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
