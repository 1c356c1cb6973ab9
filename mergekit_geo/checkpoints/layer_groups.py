"""Tensors in groups that are told apart: by depth (blocks of layers), and by kind of module.

Both are by name alone, and each is a partition: every tensor is in one group by depth and in one by
kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from mergekit_geo.checkpoints import parts
from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.layers import layer_number
from mergekit_geo.checkpoints.parts import Part, parts_of
from mergekit_geo.config.measures import LAYER_BLOCKS

Groups = dict[str, tuple[str, ...]]
"""Names of tensors by the name of their group."""

BLOCK = re.compile(r"(.*?)layers? (\d+)(?:-(\d+))?")
"""The name of a block of layers."""

FIRST_NUMBER = re.compile(r"(?:(.*?)\.)?(\d+)\.")
EMBEDDINGS, NORM, HEAD, OTHER = parts.EMBEDDINGS, parts.NORM, parts.HEAD, parts.OTHER

MODULES = (
    parts.VISION, parts.AUDIO, parts.PROJECTOR, parts.SHARED, parts.ENCODER, parts.TEXT,
    parts.DECODER, parts.SPEECH, parts.OTHER,
)  # fmt: skip
"""Modules in the order in which data goes through them."""

KINDS = {
    "norms": re.compile(r"norm|(^|\.)(ln_?\w*|bn\d*)(\.|$)", re.IGNORECASE),
    "cross-attention": re.compile(r"EncDecAttention|encoder_attn|cross_?attn|cross_?attention",
                                  re.IGNORECASE),
    "attention": re.compile(r"attn|attention|(^|\.)([qkvo]|qkv|out)_proj(\.|$)", re.IGNORECASE),
    "mixers": re.compile(r"(^|\.)(mixer|mamba|ssm|time_mix\w*)(\.|$)"),
    "MLP": re.compile(
        r"mlp|ffn|feed_?forward|DenseReluDense|channel_mix"
        r"|(^|\.)(fc\d?|lin\d|intermediate|output|\w+_proj|w[123io]|wi_\d)(\.|$)",
        re.IGNORECASE,
    ),
    "convolutions": re.compile("conv"),
}  # fmt: skip
"""Words in the names of a layer's tensors, by the kind of module; the first that matches counts."""

ORDER = (
    EMBEDDINGS, "attention", "cross-attention", "mixers", "MLP", parts.ROUTER, parts.EXPERTS,
    parts.SHARED_EXPERTS, "convolutions", "norms", parts.MTP, OTHER, HEAD,
)  # fmt: skip


class _Place(NamedTuple):
    """Where a tensor is: in a numbered layer of a stack, or beside the layers."""

    module: str
    kind: str
    stack: str = ""
    number: int = -1


def by_depth(tensors: Iterable[str], config: Config, most: int = LAYER_BLOCKS) -> Groups:
    """Embeddings, blocks of consecutive layers, what follows the layers, and the head.

    Args:
        tensors: Names of a model's tensors.
        config: Its configuration.
        most: Blocks of all stacks together; each stack has at least one.

    Example:
        >>> names = ["lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"]
        >>> names += [f"model.layers.{i}.mlp.up_proj.weight" for i in range(3)]
        >>> list(by_depth(names, {"vocab_size": 8}, most=2))
        ['embeddings', 'layer 0', 'layers 1-2', 'norm', 'head']
    """
    places = {name: _place(name, part) for name, part in parts_of(tensors, config).items()}
    found: dict[tuple[object, ...], list[str]] = {}
    block_of, title_of = _blocks(places.values(), most), _titles(places.values())
    for name, place in places.items():
        block = block_of.get((place.stack, place.number))
        found.setdefault((*_rank(place), place.stack, block or (), title_of(place, block)), []
                         ).append(name)  # fmt: skip
    groups: dict[str, list[str]] = {}
    for key in sorted(found, key=_sortable):
        groups.setdefault(str(key[-1]), []).extend(found[key])
    return {title: tuple(names) for title, names in groups.items()}


def by_kind(tensors: Iterable[str], config: Config) -> Groups:
    """Attention, MLP, norms, embeddings, head: the same kind in all layers together.

    Modules that are not looked into beside others, such as a vision tower, are a kind each.

    Args:
        tensors: Names of a model's tensors.
        config: Its configuration.

    Example:
        >>> names = ["model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight"]
        >>> names += ["model.layers.0.input_layernorm.weight", "model.norm.weight"]
        >>> {kind: len(found) for kind, found in by_kind(names, {}).items()}
        {'attention': 1, 'MLP': 1, 'norms': 2}
    """
    found: dict[str, list[str]] = {}
    for name, part in parts_of(tensors, config).items():
        found.setdefault(kind_of(name, part), []).append(name)
    known = [*MODULES, *ORDER]
    order = sorted(found, key=lambda kind: known.index(kind) if kind in known else len(known))
    return {kind: tuple(found[kind]) for kind in order}


def kind_of(tensor: str, part: Part) -> str:
    """The kind of module that a tensor is of.

    Args:
        tensor: Its name.
        part: Of the model, that it is in.

    Example:
        >>> kind_of("model.layers.0.self_attn.q_norm.weight", Part("text", "layers"))
        'norms'
    """
    if part.kind == parts.NORM:
        return "norms"
    if part.kind != parts.LAYERS:
        return part.kind or part.module
    return next((kind for kind, words in KINDS.items() if words.search(tensor)), OTHER)


def _place(name: str, part: Part) -> _Place:
    """Where a tensor is, by its first numbered layer."""
    found = layer_number(name)
    if found is None and part.kind == parts.LAYERS and (first := FIRST_NUMBER.match(name)):
        found = first[1] or "", int(first[2])
    if found is None:
        return _Place(part.module, part.kind or OTHER)
    return _Place(part.module, parts.LAYERS, *found)


def _rank(place: _Place) -> tuple[int, int]:
    """Where a tensor stands in the order in which data goes through a model."""
    kinds = (EMBEDDINGS, OTHER, parts.LAYERS)
    after = {NORM: len(kinds), HEAD: len(kinds) + 1}
    kind = kinds.index(place.kind) if place.kind in kinds else after.get(place.kind, len(kinds))
    return MODULES.index(place.module), kind


def _sortable(key: tuple[object, ...]) -> str:
    """Keys of groups in order: numbers by value, names by letters."""
    module, kind, stack, block, title = key
    first = block[0] if isinstance(block, tuple) and block else 0
    return f"{module:02d} {kind:02d} {stack} {first:06d} {title}"


Block = tuple[int, int]
"""First and last number of the layers in a block."""


def _blocks(places: Iterable[_Place], most: int) -> dict[tuple[str, int], Block]:
    """The block of every layer of every stack."""
    stacks: dict[str, set[int]] = {}
    for place in places:
        if place.number >= 0:
            stacks.setdefault(place.stack, set()).add(place.number)
    total = sum(map(len, stacks.values()))
    return {
        (stack, number): (block[0], block[-1])
        for stack, numbers in stacks.items()
        for block in _cut(sorted(numbers), max(1, most * len(numbers) // max(total, most)))
        for number in block
    }


def _cut(numbers: Sequence[int], count: int) -> list[Sequence[int]]:
    """Numbers in so many runs, of lengths that differ by one at most."""
    count = min(count, len(numbers))
    edges = [len(numbers) * i // count for i in range(count + 1)]
    return [numbers[low:high] for low, high in pairwise(edges)]


def _titles(places: Iterable[_Place]) -> Callable[[_Place, Block | None], str]:
    """How groups are called: no more is said than tells them from each other."""
    found = list(places)
    stacks: Mapping[str, set[str]] = {
        module: {one.stack for one in found if one.module == module and one.number >= 0}
        for module in {one.module for one in found}
    }
    several = len(stacks) > 1

    def title(place: _Place, block: Block | None) -> str:
        before = f"{place.module} " if several else ""
        if block is None:
            alone = several and place.kind == OTHER and not stacks[place.module]
            return place.module if alone else f"{before}{place.kind}"
        first, last = block
        numbers = f"{first}" if first == last else f"{first}-{last}"
        if len(stacks[place.module]) > 1:
            return f"{place.stack} {numbers}".strip()
        return f"{before}layer{'' if first == last else 's'} {numbers}"

    return title


def joined(names: Sequence[str]) -> str:
    """Names of groups, blocks of layers that follow each other as one.

    Example:
        >>> joined(["layer 1", "norm", "layers 2-3", "layer 0", "layer 7"])
        'layers 0-3, layer 7 and norm'
    """
    blocks: dict[str, list[list[int]]] = {}
    others = []
    for name in names:
        if found := BLOCK.fullmatch(name):
            first = int(found[2])
            blocks.setdefault(found[1], []).append([first, int(found[3] or first)])
        else:
            others.append(name)
    runs = [text for stack, own in blocks.items() for text in _runs(stack, sorted(own))]
    *most, last = [*runs, *others]
    return f"{', '.join(most)} and {last}" if most else last


def _runs(stack: str, blocks: Sequence[list[int]]) -> list[str]:
    runs: list[list[int]] = []
    for first, last in blocks:
        if runs and runs[-1][1] + 1 == first:
            runs[-1][1] = last
        else:
            runs.append([first, last])
    return [
        f"{stack}layer {first}" if first == last else f"{stack}layers {first}-{last}"
        for first, last in runs
    ]
