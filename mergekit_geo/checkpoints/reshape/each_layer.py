"""What a configuration says of each layer, in all the ways in which configurations say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.errors import IncompatibleError

EACH = (
    "layer", "block", "num_key_value_heads", "num_attention_heads", "num_query_heads",
    "intermediate_size", "ffn_multipliers", "hybrid_override_pattern", "head_dim",
    "sparsity_pattern", "indexer_types", "sliding_windows",
)  # fmt: skip
"""Parts of the keys under which there can be an entry for every layer."""

NUMBERS = (
    "mlp_only_layers", "attn_layer_indices", "hybrid_layer_ids", "cross_attention_layers",
    "full_attn_idxs", "moe_layers", "fullatt_block_indexes", "global_attn_indexes",
    "global_attention_blocks", "window_block_indices", "window_block_indexes", "slstm_at",
    "rope_scaling_layers",
)  # fmt: skip
"""Keys whose entries are numbers of layers."""

LEADING = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
"""Keys that say how many layers from the first on are of another kind."""

TRAILING = ("num_kv_shared_layers",)
"""Keys that say how many layers up to the last are of another kind."""

LAST = ("moe_layer_end_index",)
"""Keys with the number of the last layer of a kind."""

IN_TURN = ("block_types",)
"""Keys of kinds that layers have in turn."""

READ_OFF = ("deepstack_visual_indexes", "intermediate_layers_indices")
"""Keys with numbers of layers whose outputs other modules take, one each."""

OVERRIDES = "per_layer_config"
"""Settings that single layers have instead of the model's, by their number."""

KINDS = "attention_types"
"""GPT-Neo's: kinds of layers in turn, and how often."""

Entries = Sequence[Any]


@dataclass(frozen=True)
class Form:
    """One way of saying something of each layer.

    Attributes:
        read: From what is said, of so many layers, to an entry for each.
        write: Back.
    """

    read: Callable[[Any, int], Entries]
    write: Callable[[Entries], Any] = list


def _last_places(entries: Entries) -> list[int]:
    """Where each output is taken from now: the last layer that was the one."""
    found = {turn: i for i, (turn, _) in enumerate(entries) if turn is not None}
    if len(found) < (wanted := entries[0][1]):
        raise IncompatibleError(
            [f"other modules take the outputs of {wanted} layers, and of these {len(found)} are "
             "left"],
            remedy="keep the layers that config.json numbers under " + " or ".join(READ_OFF),
        )  # fmt: skip
    return [found[turn] for turn in range(wanted)]


FORMS = {
    **dict.fromkeys(NUMBERS, Form(
        lambda said, count: [i in said for i in range(count)],
        lambda entries: [i for i, is_one in enumerate(entries) if is_one],
    )),
    **dict.fromkeys(LEADING, Form(lambda said, count: [i < said for i in range(count)], sum)),
    **dict.fromkeys(TRAILING, Form(
        lambda said, count: [i >= count - said for i in range(count)], sum
    )),
    **dict.fromkeys(LAST, Form(
        lambda said, count: [i <= said for i in range(count)], lambda entries: sum(entries) - 1
    )),
    **dict.fromkeys(IN_TURN, Form(
        lambda said, count: [said[i % len(said)] for i in range(count)]
    )),
    **dict.fromkeys(READ_OFF, Form(
        lambda said, count: [(said.index(i) if i in said else None, len(said))
                             for i in range(count)],
        _last_places,
    )),
    OVERRIDES: Form(
        lambda said, count: [_by_number(said).get(i) for i in range(count)],
        lambda entries: {str(i): one for i, one in enumerate(entries) if one is not None},
    ),
    KINDS: Form(
        lambda said, _: [kind for kinds, times in said for kind in kinds * times],
        lambda entries: [[list(entries), 1]],
    ),
}  # fmt: skip
"""By key; under other keys there is a list, or a text, with an entry for every layer."""

LIST, TEXT = Form(lambda said, _: said), Form(lambda said, _: said, "".join)


def _by_number(said: Mapping[Any, Any]) -> dict[int, Any]:
    return {int(number): settings for number, settings in said.items()}


Source = tuple[int, int]
"""A model, and the number of a layer of it."""


@dataclass(frozen=True)
class Unlike:
    """Two layers that one is made of, of which the configuration says unlike things.

    Attributes:
        key: What it says.
        sources: The layers.
        values: Of each.
    """

    key: str
    sources: tuple[Source, Source]
    values: tuple[object, object]


@dataclass(frozen=True)
class EachLayer:
    """What several configurations say of each of their layers.

    Args:
        configs: With all that transformers derives from them.
        counts: Layers of each.

    Attributes:
        entries: By key, those of each configuration.

    Example:
        >>> said = EachLayer([{"layer_types": ["full", "window"], "moe_layers": [1]}], [2])
        >>> said.joined([(0, 1), (0, 0), (0, 1)])
        {'layer_types': ['window', 'full', 'window'], 'moe_layers': [0, 2]}
    """

    configs: Sequence[Config]
    counts: Sequence[int]
    entries: dict[str, list[Entries]] = field(init=False)

    def __post_init__(self) -> None:
        found = {}
        for key in self.configs[0]:
            values = [config.get(key) for config in self.configs]
            if all(is_of_each(key, v, n) for v, n in zip(values, self.counts, strict=True)):
                form = _form(key, values[0])
                found[key] = [form.read(v, n) for v, n in zip(values, self.counts, strict=True)]
        object.__setattr__(self, "entries", found)

    def joined(self, taken: Sequence[Source]) -> Config:
        """The same of other layers.

        Args:
            taken: What each is taken from.
        """
        return {
            key: _form(key, self.configs[0][key]).write([entries[m][n] for m, n in taken])
            for key, entries in self.entries.items()
        }

    def unlike(self, made_of: Sequence[Sequence[Source]]) -> Iterator[Unlike]:
        """Layers that are not of one kind, and are to be merged.

        Args:
            made_of: The layers that each one of the output is made of.
        """
        for key, entries in self.entries.items():
            for first, *others in made_of:
                mine = entries[first[0]][first[1]]
                for other in others:
                    if (theirs := entries[other[0]][other[1]]) != mine:
                        yield Unlike(key, (first, other), (mine, theirs))


def is_of_each(key: str, said: object, count: int) -> bool:
    """Whether a value under a key says something of each of so many layers.

    Example:
        >>> is_of_each("layer_types", ["full"], 2), is_of_each("moe_layers", [1], 2)
        (False, True)
    """
    if key in (*NUMBERS, *READ_OFF):
        return isinstance(said, list)
    if key in (*LEADING, *TRAILING, *LAST):
        return isinstance(said, int)
    if key in FORMS:
        return bool(said)
    named = any(part in key for part in EACH)
    return named and isinstance(said, list | tuple | str) and len(said) == count


def _form(key: str, said: object) -> Form:
    return FORMS.get(key) or (TEXT if isinstance(said, str) else LIST)
