"""Names that tell how a module was saved: in a wrapper of torch's, or with an adapter apart.

Nothing loads tensors under a wrapper's names: they are taken off. Factors of an adapter are no
weights of a model: they are refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from mergekit_geo.errors import FormatError, UnsupportedError

COMPONENTS = (
    "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module",
)  # fmt: skip
"""Wrappers of torch.compile, FSDP, activation checkpointing, Lightning: anywhere in a name."""

COMPONENT = re.compile(rf"(?:^|(?<=\.))(?:{'|'.join(COMPONENTS)})\.")

PEFT = "base_model.model."
PREFIXES = ("module.", PEFT)
"""Prefixes of (Distributed)DataParallel and DeepSpeed, and of peft, before every name."""

FACTOR = re.compile(r"lora_(?:A|B|up|down|mid|embedding_A|embedding_B)\b|\.lora\.|hada_w|lokr_w")
"""Names of factors as peft, diffusers, kohya and LyCORIS write them."""

BESIDE = re.compile(r"\.alpha$|dora_scale$|lora_magnitude_vector")

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


def refuse_factors(tensors: Collection[str], name: str) -> None:
    """Refuse what is an adapter, or a model with one apart: products are averaged, not factors.

    Args:
        tensors: Names.
        name: What the user calls it.

    Raises:
        UnsupportedError: With the way out.

    Example:
        >>> refuse_factors(["layers.0.q_a_proj.weight", "layers.0.lora_A.weight"], "a")
    """
    factors = [tensor for tensor in tensors if FACTOR.search(tensor)]
    if not factors:
        return
    if all(FACTOR.search(tensor) or BESIDE.search(tensor) for tensor in tensors):
        raise UnsupportedError(
            f"it holds the factors of an adapter ({factors[0]}), and no model: the mean of factors "
            "is not the mean of what they add",
            where=name,
            remedy="adapters of peft are read with their adapter_config.json; merge others into "
            "their base first (fuse_lora and save_pretrained of diffusers), and name the results",
        )
    if all(tensor.startswith(PEFT) for tensor in tensors):
        raise UnsupportedError(
            f"it holds a model and an adapter apart ({factors[0]}), as the state of a PeftModel is",
            where=name,
            remedy="load it with peft, then merge_and_unload() and save_pretrained()",
        )
