"""Names that torch's wrappers leave on tensors: nothing loads them so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from mergekit_geo.errors import FormatError

COMPONENTS = (
    "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module",
)  # fmt: skip
"""Wrappers of torch.compile, FSDP, activation checkpointing, Lightning: anywhere in a name."""

COMPONENT = re.compile(rf"(?:^|(?<=\.))(?:{'|'.join(COMPONENTS)})\.")

PREFIXES = ("module.", "base_model.model.")
"""Prefixes of (Distributed)DataParallel and DeepSpeed, and of peft, before every name."""

T = TypeVar("T")


def unwrapped(tensors: Mapping[str, T], config: Mapping[str, Any], where: str) -> dict[str, T]:
    """Remove the name parts that wrappers such as FSDP add to a module's tensors.

    Args:
        tensors: By stored name.
        config: Of the checkpoint. Where it names no architecture, these may be its own.
        where: What the user calls it.

    Raises:
        FormatError: Two tensors have one name then.

    Example:
        >>> unwrapped({"_orig_mod.w": 1, "_orig_mod.layers.0._orig_mod.w": 2}, {}, "a")
        {'w': 1, 'layers.0.w': 2}
        >>> unwrapped({"module.w": 1}, {"architectures": ["LlamaForCausalLM"]}, "a")
        {'w': 1}
    """
    known = bool(config.get("architectures"))
    if not _has_wrappers("\n".join(tensors)) and not (known and _prefix(tensors)):
        return dict(tensors)
    names = {stored: COMPONENT.sub("", stored) for stored in tensors}
    while known and (prefix := _prefix(names.values())):
        names = {stored: name.removeprefix(prefix) for stored, name in names.items()}
    found: dict[str, str] = {}
    for stored, name in names.items():
        if name in found:
            raise FormatError(
                f"{found[name]!r} and {stored!r} are one tensor, stored twice",
                where=where,
                remedy="save the unwrapped module with save_pretrained",
            )
        found[name] = stored
    return {name: tensors[stored] for name, stored in found.items()}


def _has_wrappers(names: str) -> bool:
    return any(component in names for component in COMPONENTS)


def _prefix(names: Iterable[str]) -> str:
    """Prefix that a wrapper has put before every name; empty if none."""
    found = list(names)
    every = (p for p in PREFIXES if found and all(name.startswith(p) for name in found))
    return next(every, "")


def note(stored: Mapping[str, object], clean: Mapping[str, object], where: str) -> str:
    """A note on what was removed from the names; empty if nothing was."""
    if stored.keys() == clean.keys():
        return ""
    pairs = zip(stored, clean, strict=True)
    example = next(f"{old} -> {new}" for old, new in pairs if old != new)
    return f"{where}: names without the wrapper that its module was saved in ({example})"
