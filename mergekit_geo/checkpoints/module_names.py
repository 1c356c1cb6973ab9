"""The parts of an architecture by the names that recipes give them, told from tensor names."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from mergekit_geo.checkpoints.layers import layer_number
from mergekit_geo.checkpoints.parts import DECODER, SHARED, Part, part_named, parts_of
from mergekit_geo.printable import nearest_of

PARTS: dict[str, tuple[str, ...]] = {
    "encoder": ("encoder",),
    "decoder": ("decoder",),
    "text_decoder": ("language_model", "text_model", "text_decoder"),
    "vision_tower": ("vision_tower", "vision_model", "visual", "vision_encoder"),
    "vision_model": ("vision_model", "vision_tower", "visual"),
    "audio_tower": ("audio_tower", "audio_model", "audio_encoder"),
    "multi_modal_projector": ("multi_modal_projector", "connector", "merger", "aligner"),
}
"""Module names of recipes, and the parts of tensor names by which each is told."""

DEFAULT = "default"
"""The module of all tensors that are in no other."""


def modules_of(tensors: Iterable[str], named: Collection[str]) -> dict[str, str | None]:
    """The module of each tensor, among those that a recipe names; None for one of no module.

    A name may also be the beginning of tensor names, or any part of them between dots. Where
    several are in a tensor's name, the last is meant.

    Example:
        >>> names = ["shared.weight", "encoder.block.0.w", "decoder.block.0.w"]
        >>> list(modules_of(names, ["encoder", "decoder"]).values())
        ['decoder', 'encoder', 'decoder']
        >>> modules_of(["visual.merger.w"], ["vision_tower", "multi_modal_projector"])
        {'visual.merger.w': 'multi_modal_projector'}
    """
    names = list(tensors)
    parts = parts_of(names, {})
    return {
        name: _named(part, named) or _module(name, named) or _rest(part, named)
        for name, part in parts.items()
    }


def _named(part: Part, named: Collection[str]) -> str | None:
    """The name of a part as a recipe has it, the narrowest first."""
    told = {part_named(name): name for name in named}
    return next((told[one] for one in (str(part), part.kind, part.module) if one in told), None)


def _rest(part: Part, named: Collection[str]) -> str | None:
    """What encoder and decoder share is the decoder's where nobody names it."""
    if part.module == SHARED and DECODER in named:
        return DECODER
    return DEFAULT if DEFAULT in named else None


def _module(tensor: str, named: Collection[str]) -> str | None:
    ends = {name: max(_end(tensor, part) for part in PARTS.get(name, (name,))) for name in named}
    found = max(ends, key=lambda name: ends[name], default=None)
    return found if found is not None and ends[found] > 0 else None


def _end(tensor: str, part: str) -> int:
    """Where a part of a name ends in it, outside of what its layer holds; 0 if it is not there."""
    layer = layer_number(tensor)
    outside = layer[0] if layer else tensor
    return f".{outside}.".rfind(f".{part}.") + 1 and f".{outside}.".rfind(f".{part}.") + len(part)


def known_modules(tensors: Iterable[str]) -> list[str]:
    """Names of the modules that tensors are of.

    Example:
        >>> known_modules(["encoder.block.0.w", "decoder.block.0.w"])
        ['encoder', 'decoder']
    """
    names = list(tensors)
    found = [module for module in PARTS if any(_module(name, [module]) for name in names)]
    return found or ["default"]


def nearest_module(name: str, tensors: Iterable[str]) -> str:
    """`did you mean encoder? `, and what there is."""
    known = known_modules(tensors)
    return f"{nearest_of(name, known, 0.5)}modules of this architecture: {', '.join(known)}"
