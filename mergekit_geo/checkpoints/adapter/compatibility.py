"""Whether an adapter fits its base: answered from headers, before any data is at hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod

from mergekit_geo.checkpoints.adapter.files import Adapter
from mergekit_geo.checkpoints.adapter.names import AdapterBase, Change, changes_of
from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.errors import FormatError, UnsupportedError

EMBEDDINGS = ("embed_tokens", "lm_head", "wte", "shared")
"""Parts of the names of what may be tied, where the architecture does not tell."""

LAYER = re.compile(r"\.(layers|h|blocks?)\.\d+\.")
MATRIX = 2


@dataclass(frozen=True)
class Changes:
    """All that an adapter does to its base.

    Attributes:
        by_tensor: The base's stored name to the change.
        problems: Why it does not fit; empty if it does.
    """

    by_tensor: Mapping[str, Change]
    problems: list[str] = field(default_factory=list)


def match(base: AdapterBase, adapter: Adapter) -> Changes:
    """Find the tensors that an adapter changes.

    Raises:
        UnsupportedError: It changes tied weights, or does something that is not understood.
        FormatError: Its tensors contradict themselves.
    """
    if is_ordinary(base, adapter):
        found = _matched(replace(base, ask=False), adapter)
        if not found.problems:
            return found
    return _matched(base, adapter)


def is_ordinary(base: AdapterBase, adapter: Adapter) -> bool:
    """Whether headers suffice, so that transformers need not be imported.

    In the layers of a causal language model nothing is tied, and where weights are stored (in, out)
    peft has noted it.
    """
    architecture = str((base.checkpoint.config.get("architectures") or [""])[0])
    inner = all(LAYER.search(key) and "embedding" not in key for key in adapter.tensors)
    return architecture.endswith("ForCausalLM") and inner and not adapter.settings.transposed


def _matched(base: AdapterBase, adapter: Adapter) -> Changes:
    named = changes_of(base, adapter)
    _settle_ties(named, base, adapter)
    found: dict[str, Change] = {}
    problems: list[str] = []
    for target, change in named.items():
        stored = base.find(target)
        if stored is None:
            problems.append(
                f"{target}, which {adapter.name} changes, is not in {base.checkpoint.name}"
            )
            continue
        if stored in found:
            problems.append(f"{adapter.name} changes {stored} twice, as {target} as well")
        found[stored] = change
        problems += _misfits(target, change, base.checkpoint.tensors[stored], base, adapter)
    return Changes(found, problems)


def _settle_ties(named: dict[str, Change], base: AdapterBase, adapter: Adapter) -> None:
    """Leave out tied tensors that say the same as their source; refuse all others.

    Running an adapter changes one of the two; merged, as peft merges it, both change.
    """
    ties = base.schema.ties
    if not base.schema.expected and base.checkpoint.config.get("tie_word_embeddings", True):
        unsure = [t for t in named if any(part in t for part in EMBEDDINGS)]
        ties = {target: target for target in unsure}
    canonical = {base.schema.canonical(target): target for target in named}
    for target, source in ties.items():
        touched = [canonical[name] for name in (target, source) if name in canonical]
        both = source in canonical and (
            adapter.settings.tied or all(_is_of_base(named[name], adapter) for name in touched)
        )
        if touched and not both:
            _refuse_tie(touched[0], target, source, base, adapter)
        if target != source and target in canonical:
            del named[canonical[target]]


def _is_of_base(change: Change, adapter: Adapter) -> bool:
    """Whether peft puts values into the base's own tensor, so that all that share it change.

    It saves a resized embedding so; what was trained as a copy it puts beside the base's.
    """
    return not change.is_sum and change.module.rpartition(".")[2] not in adapter.settings.saved


def _refuse_tie(
    touched: str, target: str, source: str, base: AdapterBase, adapter: Adapter
) -> None:
    raise UnsupportedError(
        f"it changes {touched}, and {base.checkpoint.name} ties {target} to {source}: merging "
        "would change both, running the adapter changes one",
        where=adapter.name,
        remedy="untie the base first: load it with tie_word_embeddings=False, copy the embedding "
        "into the head, save it, and name that base; or train with ensure_weight_tying=True",
    )


def _misfits(
    target: str, change: Change, info: TensorInfo, base: AdapterBase, adapter: Adapter
) -> list[str]:
    """Why a change cannot be made to a tensor."""
    shape = _shape(change, adapter)
    found = []
    if not info.is_float and change.is_sum:
        found.append(f"{target} is {info.dtype} in {base.checkpoint.name}, and nothing to add to")
    if shape != info.shape:
        found.append(
            f"{target} is {list(info.shape)} in {base.checkpoint.name}, and {adapter.name} changes "
            f"{list(shape)}: {_cause(shape, info.shape)}"
        )
    if change.a:
        rank, stated = adapter.tensors[change.a].shape[0], adapter.settings.rank_of(change.module)
        if rank != stated:
            found.append(
                f"{adapter.name}: {target} has rank {rank}, its configuration says {stated}"
            )
    return found


def _shape(change: Change, adapter: Adapter) -> tuple[int, ...]:
    """The shape of the tensor that a change is for; of its smallest part, if they disagree."""
    shapes = []
    if change.replaced:
        shapes.append(adapter.tensors[change.replaced].shape)
    if change.added:
        shapes.append(adapter.tensors[change.added].shape)
    if change.a:
        shapes.append(_product_shape(change, adapter))
    return shapes[0] if all(shape == shapes[0] for shape in shapes) else ()


def _product_shape(change: Change, adapter: Adapter) -> tuple[int, ...]:
    a, b = adapter.tensors[change.a].shape, adapter.tensors[change.b].shape
    if len(a) < MATRIX or len(b) < MATRIX or b[1] != a[0] or prod(b[MATRIX:]) != 1:
        raise FormatError(
            f"{change.b} is {list(b)} and {change.a} is {list(a)}: they have no product",
            where=adapter.name,
            remedy="grouped convolutions, and shards that were not gathered, look like this",
        )
    shape = (b[0], *a[1:])
    found = shape[::-1] if change.transposed else shape
    if change.magnitude:
        kept = found[-1] if change.transposed else found[0]
        if adapter.tensors[change.magnitude].count != kept:
            raise FormatError(f"{change.magnitude} does not hold {kept}", where=adapter.name)
    return found


def _cause(mine: tuple[int, ...], theirs: tuple[int, ...]) -> str:
    if mine[1:] == theirs[1:]:
        return "was the vocabulary resized for training? Resize the base's and save it first"
    return "it was trained on another model"
