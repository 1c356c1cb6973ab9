"""Layers, as the names of tensors number them."""

from __future__ import annotations

import re
from collections.abc import Iterable

NUMBERED = re.compile(r"(.*?\.)?(layers?|h|blocks?|stages|encoder|decoder)\.\d+(?=\.)")


def layer_number(tensor: str) -> tuple[str, int] | None:
    """The stack and the number of the layer that a tensor is in.

    Example:
        >>> layer_number("model.layers.7.mlp.up_proj.weight")
        ('model.layers', 7)
    """
    found = NUMBERED.match(tensor)
    if not found:
        return None
    stack, _, number = found[0].rpartition(".")
    return stack, int(number)


def renumbered(tensor: str, number: int) -> str:
    """Name of this tensor in another layer.

    Example:
        >>> renumbered("model.layers.7.mlp.up_proj.weight", 12)
        'model.layers.12.mlp.up_proj.weight'
    """
    found = NUMBERED.match(tensor)
    assert found is not None, tensor
    return f"{found[0].rpartition('.')[0]}.{number}{tensor[found.end() :]}"


def depths(tensors: Iterable[str]) -> dict[str, int]:
    """Number of layers of each stack.

    Example:
        >>> depths(["encoder.block.1.w", "decoder.block.0.w", "shared.weight"])
        {'encoder.block': 2, 'decoder.block': 1}
    """
    found: dict[str, int] = {}
    for stack, number in filter(None, map(layer_number, tensors)):
        found[stack] = max(number + 1, found.get(stack, 0))
    return found
