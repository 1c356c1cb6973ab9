"""Settings of `config.json` that are not the same in two models: the output has the first's."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.components import COMPONENTS
from mergekit_geo.checkpoints.configuration import OTHER_FILES, TIE
from mergekit_geo.files.sound_json import brief

SILENT = frozenset(
    {
        *("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"),
        *("architectures", "_diffusers_version", COMPONENTS, *OTHER_FILES, TIE),
    }
)
"""Keys that do not change what the weights mean, or that are compared elsewhere."""

ROPE, ROPES = "rope_parameters", ("rope_theta", "rope_scaling", "rope_parameters")
"""Keys of rotary embeddings, since transformers 5 and before."""

SettingPair = tuple[Any, Any]


def differing_settings(
    donor: Checkpoint, other: Checkpoint, silent: Collection[str] = ()
) -> list[str]:
    """A line for each setting that differs, but for some.

    What only one of the two states is compared with the other's default, as transformers knows it.
    """
    pairs = dict(_stated(donor.config, other.config))
    pairs = {key: pair for key, pair in pairs.items() if key.rpartition(".")[2] not in silent}
    single = [key for key, (mine, theirs) in pairs.items() if mine is ... or theirs is ...]
    found = {key: pair for key, pair in pairs.items() if key not in single}
    if single:
        found |= _loaded(single, donor.config, other.config)
    lines = ((key, pair) for key, pair in sorted(found.items()) if pair[0] != pair[1])
    return [_told(key, pair, donor, other) for key, pair in lines]


def differing_setting(key: str, donor: Checkpoint, other: Checkpoint) -> list[str]:
    """A line if both state a setting, and not the same."""
    configs = donor.config, other.config
    if not all(key in config for config in configs) or configs[0][key] == configs[1][key]:
        return []
    return [_told(key, (configs[0][key], configs[1][key]), donor, other)]


def _stated(mine: Config, theirs: Config, above: str = "") -> Iterator[tuple[str, SettingPair]]:
    """Both values of each setting by its path; `...` where it is not stated."""
    for key in (mine.keys() | theirs.keys()) - SILENT:
        pair = mine.get(key, ...), theirs.get(key, ...)
        if key.endswith("_config") and all(isinstance(value, dict) for value in pair):
            yield from _stated(*pair, f"{above}{key}.")
        else:
            yield f"{above}{key}", pair


def _loaded(keys: list[str], mine: Config, theirs: Config) -> dict[str, SettingPair]:
    """Both values of settings as transformers reads them; those that it does not know are not."""
    if not all("model_type" in config for config in (mine, theirs)):
        return {}
    from mergekit_geo.checkpoints.loading import load_config  # loads transformers

    try:
        loaded = [load_config(config).to_dict() for config in (mine, theirs)]
    except Exception:  # whatever a configuration class raises: nothing is known then
        return {}
    wanted = {_place(key) for key in keys}
    pairs = {key: (_at(loaded[0], key), _at(loaded[1], key)) for key in wanted}
    return {key: pair for key, pair in pairs.items() if ... not in pair}


def _place(key: str) -> str:
    """Path of a setting in transformers' configurations."""
    above, dot, last = key.rpartition(".")
    return f"{above}{dot}{ROPE}" if last in ROPES else key


def _at(config: Config, key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = found.get(part, ...) if isinstance(found, dict) else ...
    return found


def _told(key: str, pair: SettingPair, donor: Checkpoint, other: Checkpoint) -> str:
    mine, theirs = (repr(v) if isinstance(v, str | int | float) else brief(v) for v in pair)
    return (
        f"config.json: {key} is {mine} in {donor.name} and {theirs} in {other.name}; "
        "the output has the first model's"
    )
