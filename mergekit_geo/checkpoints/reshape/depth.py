"""The configuration of a model of other layers: their number, and what it says of each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.layers import depths
from mergekit_geo.checkpoints.naming import schema_of
from mergekit_geo.errors import IncompatibleError

COUNTS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_encoder_layers",
    "num_decoder_layers", "encoder_layers", "decoder_layers", "depth", "num_blocks",
    "max_window_layers",
)  # fmt: skip
"""Keys that say how many layers there are; which of them do is found by trying."""

EACH = (
    "layer", "block", "num_key_value_heads", "num_attention_heads", "num_query_heads",
    "intermediate_size", "ffn_multipliers", "hybrid_override_pattern", "head_dim",
)  # fmt: skip
"""Parts of the keys under which there can be an entry for every layer."""

NUMBERS = (
    "mlp_only_layers", "attn_layer_indices", "hybrid_layer_ids", "cross_attention_layers",
    "full_attn_idxs", "moe_layers",
)  # fmt: skip
"""Keys whose entries are numbers of layers."""

LEADING = ("first_k_dense_replace", "num_dense_layers")
"""Keys that say how many layers from the first on are of another kind."""

KINDS = "attention_types"
"""GPT-Neo's: kinds of layers in turn, and how often."""

Path = tuple[str, ...]
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
class Restacked:
    """A configuration for other layers.

    Attributes:
        config: The same but for the layers.
        unlike: Layers that are not of one kind, and are to be merged.
    """

    config: Config
    unlike: list[Unlike] = field(default_factory=list)


def depth_keys() -> frozenset[str]:
    """Settings that may differ between models of which layers are taken."""
    return frozenset({*COUNTS, *NUMBERS, *LEADING, KINDS, "layer_types", "mlp_layer_types",
                      "layers_block_type", "no_rope_layers", "attention_layers"})  # fmt: skip


def restacked(
    configs: Sequence[Config], stack: str, made_of: Sequence[Sequence[Source]]
) -> Restacked:
    """The first configuration, for layers that are taken from several models.

    Args:
        configs: Of the models.
        stack: What tensors of the layers are called before their number.
        made_of: The layers that each one of the output is made of.
    """
    config, taken = configs[0], [sources[0] for sources in made_of]
    if not config:
        return Restacked(config)
    path, keys = _where(config, stack)
    inner = dict(_at(config, path))
    loaded = [_at(_loaded(one), path) for one in configs]
    stated = [_at(one, path) for one in configs]
    inner |= dict.fromkeys(keys, len(taken))
    whole = [{**mine, **theirs} for mine, theirs in zip(loaded, stated, strict=True)]
    inner |= _lists(whole, keys, taken)
    return Restacked(_with(config, path, inner), list(_unlike(whole, keys, made_of)))


def _unlike(
    whole: Sequence[Config], keys: Sequence[str], made_of: Sequence[Sequence[Source]]
) -> Iterator[Unlike]:
    for key in _listed(whole, keys):
        for sources in made_of:
            values = [whole[m][key][n] for m, n in sources]
            for source, value in zip(sources, values, strict=True):
                if value != values[0]:
                    yield Unlike(key, (sources[0], source), (values[0], value))


def _listed(whole: Sequence[Config], keys: Sequence[str]) -> list[str]:
    """Keys under which every configuration has an entry for every layer."""
    counts = [next((one[key] for key in keys if key in one), None) for one in whole]
    return [
        key
        for key in whole[0]
        if all(_is_for_each(key, one.get(key), n) for one, n in zip(whole, counts, strict=True))
    ]


def _lists(whole: Sequence[Config], keys: Sequence[str], taken: Sequence[Source]) -> Config:
    """What is said of each layer, or by its number, joined as the layers are."""
    found: Config = {}
    listed = _listed(whole, keys)
    for key in whole[0]:
        values = [one.get(key) for one in whole]
        if key in NUMBERS:
            found |= {key: [i for i, (m, n) in enumerate(taken) if n in (values[m] or [])]}
        elif key in LEADING and isinstance(values[0], int):
            found |= {key: sum(n < (values[m] or 0) for m, n in taken)}
        elif key in listed:
            joined = [whole[m][key][n] for m, n in taken]
            found |= {key: "".join(joined) if isinstance(values[0], str) else joined}
    if KINDS in whole[0]:
        kinds = [one["attention_layers"] for one in whole]
        found |= {KINDS: [[[kinds[m][n] for m, n in taken], 1]]}
    return found


def _is_for_each(key: str, value: object, count: int | None) -> bool:
    """Whether a value has an entry for every layer."""
    named = any(part in key for part in EACH) and key not in NUMBERS
    return named and isinstance(value, list | tuple | str) and len(value) == count


def _where(config: Config, stack: str) -> tuple[Path, tuple[str, ...]]:
    """The part of a configuration that a stack is of, and the keys that say how many layers it has.

    They are tried: with another number, transformers' model has that many layers, and all else as
    it was.
    """
    before = _depths(config, stack)
    tried = list(_candidates(config))
    for path, keys in tried:
        inner = _at(config, path)
        count = inner[keys[0]]
        longer = _longer(inner, _at(_loaded(config), path), count)
        candidate = _with(config, path, {**inner, **longer, **dict.fromkeys(keys, count + 1)})
        after = _depths(candidate, stack)
        if before and after == {**before, stack: before.get(stack, 0) + 1}:
            return path, keys
    if before and before.get(stack):
        raise IncompatibleError(
            [f"no key of config.json says how many layers {stack} has"],
            remedy="only slices that are whole models can be merged of this architecture",
        )
    return next(((path, keys) for path, keys in tried), ((), ()))


def _longer(inner: Config, loaded: Config, count: int) -> Config:
    """Lists of a part of a configuration with the last entry once more."""
    return {
        key: f"{value}{value[-1]}" if isinstance(value, str) else [*value, value[-1]]
        for key, value in {**loaded, **inner}.items()
        if _is_for_each(key, value, count)
    }


def _candidates(config: Config) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Parts of a configuration, and sets of keys with the same number in it, larger sets first."""
    paths: list[Path] = [()]
    paths += [(key,) for key, value in config.items() if isinstance(value, dict)]
    for path in paths:
        inner = _at(config, path)
        known = [key for key in COUNTS if isinstance(inner.get(key), int)]
        for size in range(min(len(known), 4), 0, -1):
            for keys in combinations(known, size):
                if len({inner[key] for key in keys}) == 1 and keys[0] != COUNTS[-1]:
                    yield path, keys


def _depths(config: Config, stack: str) -> dict[str, int]:
    """Layers of each stack of transformers' model, by the names that `stack` is one of."""
    schema = schema_of(config)
    found = depths(schema.expected)
    own = depths([schema.canonical(f"{stack}.0.weight")])
    loaded = next(iter(own), stack)
    return {stack if name == loaded else name: count for name, count in found.items()}


def _loaded(config: Config) -> Config:
    """A configuration with all that transformers derives from it; as it is where it cannot."""
    from mergekit_geo.checkpoints.loading import load_config  # loads transformers

    try:
        found: Config = load_config(config).to_dict()
    except Exception:  # whatever a configuration class raises: nothing more is known then
        return config
    return found


def _at(config: Mapping[str, Any], path: Path) -> Config:
    for key in path:
        found = config.get(key)
        config = found if isinstance(found, dict) else {}
    return dict(config)


def _with(config: Config, path: Path, inner: Config) -> Config:
    return inner if not path else {**config, path[0]: _with(_at(config, path[:1]), path[1:], inner)}
