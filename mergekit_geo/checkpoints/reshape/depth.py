"""The configuration of a model of other layers: their number, and what it says of each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.layers import depths
from mergekit_geo.checkpoints.naming import schema_of
from mergekit_geo.checkpoints.reshape.each_layer import FORMS, EachLayer, Source, Unlike
from mergekit_geo.errors import IncompatibleError

COUNTS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_encoder_layers",
    "num_decoder_layers", "encoder_layers", "decoder_layers", "encoder_num_hidden_layers",
    "decoder_num_hidden_layers", "speech_encoder_layers", "depth", "num_blocks",
    "max_window_layers",
)  # fmt: skip
"""Keys that say how many layers there are; which of them do is found by trying."""

Path = tuple[str, ...]


@dataclass(frozen=True)
class Restacked:
    """A configuration for other layers.

    Attributes:
        config: The same but for the layers.
        unlike: Layers that are not of one kind, and are to be merged.
        parted: Tensors outside the layers that have a part for each, as they are loaded.
    """

    config: Config
    unlike: Sequence[Unlike] = ()
    parted: frozenset[str] = frozenset()


def depth_keys() -> frozenset[str]:
    """Settings that may differ between models of which layers are taken."""
    return frozenset({*COUNTS, *FORMS, "layer_types", "mlp_layer_types", "layers_block_type",
                      "no_rope_layers", "attention_layers"})  # fmt: skip


def restacked(
    configs: Sequence[Config], stack: str, made_of: Sequence[Sequence[Source]], depth: int
) -> Restacked:
    """The first configuration, for layers that are taken from several models.

    Args:
        configs: Of the models.
        stack: What tensors of the layers are called before their number.
        made_of: The layers that each one of the output is made of.
        depth: Layers that the first model has, by its tensors.

    Raises:
        IncompatibleError: Nothing says how many layers there are.
    """
    config, taken = configs[0], [sources[0] for sources in made_of]
    if not config:
        return Restacked(config)
    path, keys, parted = _where(config, stack, depth)
    said = EachLayer([_whole(one, path) for one in configs],
                     [_count(one, path, keys, stack) for one in configs])  # fmt: skip
    inner = {**_at(config, path), **dict.fromkeys(keys, len(taken)), **said.joined(taken)}
    return Restacked(_with(config, path, inner), tuple(said.unlike(made_of)), parted)


def _whole(config: Config, path: Path) -> Config:
    """A part of a configuration, with all that transformers derives from it."""
    return {**_at(_loaded(config), path), **_at(config, path)}


def _count(config: Config, path: Path, keys: Sequence[str], stack: str) -> int:
    """Layers of a stack, as a configuration says; where it lists them alone, transformers' model's.

    0 where nothing is known.
    """
    whole = _whole(config, path)
    said = next((whole[key] for key in keys if key in whole), None)
    return int(_depths(config, stack).get(stack, 0) if said is None else said)


def _where(config: Config, stack: str, depth: int) -> tuple[Path, tuple[str, ...], frozenset[str]]:
    """The part of a configuration that a stack is of, and the keys that say how many layers it has.

    They are tried: with another number, transformers' model has that many layers, and all else as
    it was, but for tensors with a part for each layer, which come third. No key of a configuration
    that lists the layers alone.
    """
    known = schema_of(config).expected
    before = _depths(config, stack)
    tried = list(_candidates(config))
    for path, keys in tried if before else ():
        longer = _longer(config, path, keys, stack)
        if _depths(longer, stack) == {**before, stack: before.get(stack, 0) + 1}:
            other = schema_of(longer).expected
            grown = (name for name in known if known[name].shape != other[name].shape)
            return path, keys, frozenset(grown)
    stated = [(path, keys) for path, keys in tried if keys and _at(config, path)[keys[0]] == depth]
    if before.get(stack) or (not stated and config.get("architectures")):
        raise IncompatibleError(
            [f"no key of config.json says how many layers {stack} has"],
            remedy="only slices that are whole models can be merged of this architecture",
        )
    return *next(iter(stated), ((), ())), frozenset()


def _longer(config: Config, path: Path, keys: Sequence[str], stack: str) -> Config:
    """A configuration with the last layer once more."""
    count = _count(config, path, keys, stack)
    said = EachLayer([_whole(config, path)], [count])
    joined = said.joined([(0, i) for i in (*range(count), count - 1)])
    inner = {**_at(config, path), **joined, **dict.fromkeys(keys, count + 1)}
    return _with(config, path, inner)


def _candidates(config: Config) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Parts of a configuration, and sets of keys with the same number in it, larger sets first.

    No keys come last, for those that list their layers.
    """
    paths: list[Path] = [()]
    paths += [(key,) for key, value in config.items() if isinstance(value, dict)]
    for path in paths:
        inner = _at(config, path)
        known = [key for key in COUNTS if isinstance(inner.get(key), int)]
        for size in range(min(len(known), 4), 0, -1):
            for keys in combinations(known, size):
                if len({inner[key] for key in keys}) == 1 and keys[0] != COUNTS[-1]:
                    yield path, keys
        yield path, ()


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
