"""`config.json` as transformers reads and writes it: numbers that JSON has not are tagged."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator
from typing import Any

from mergekit_geo.errors import FormatError
from mergekit_geo.files.sound_json import brief, parse_json

LAYERS = ("layer", "layers", "block", "blocks", "depth", "depths", "experts")
COUNTED = re.compile(r"(?:^|_)(layers?|blocks?|depths?|experts|labels|stages)$")
"""Ends of the keys whose numbers say how many modules or names are made."""

MOST_LAYERS, MOST_PARTS = 1_000, 1_000_000

_NUMBER, _TEXT = ("a number", (int, float)), ("text", (str,))
_NAMES = ("an object", (dict,))
KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "model_type": _TEXT, "problem_type": _TEXT, "tie_word_embeddings": ("true or false", (int,)),
    "text_config": _NAMES, "auto_map": _NAMES, "id2label": _NAMES, "label2id": _NAMES,
    "vocab_size": _NUMBER, "pad_token_id": _NUMBER, "num_labels": _NUMBER, "n_positions": _NUMBER,
    "max_position_embeddings": _NUMBER, "num_channels": _NUMBER,
}  # fmt: skip
"""Types of the settings that are read here."""

TAG = "__float__"
SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

OTHER_FILES = frozenset({"transformers_weights", "configuration_files"})
"""Keys by which transformers reads other weights or another configuration than lie there by name.

Here they are not followed: what is checked, merged and measured are the same files.
"""


def parse_config(text: str) -> Any:
    """The parsed text, with tagged numbers as numbers.

    Raises:
        ValueError: It is not sound JSON.

    Example:
        >>> parse_config('{"time_step_limit": [0.0, {"__float__": "Infinity"}]}')
        {'time_step_limit': [0.0, inf]}
    """
    return parse_json(text, object_hook=_number)


def config_text(config: Any) -> str:
    """A configuration as JSON: tags where JSON has no number, and no names of other files.

    Example:
        >>> config_text({"limit": math.inf}).split()
        ['{', '"limit":', '{', '"__float__":', '"Infinity"', '}', '}']
    """
    return json.dumps(_tagged(config), indent=2, ensure_ascii=False) + "\n"


def without_other_files(config: dict[str, Any]) -> dict[str, Any]:
    """Copy a configuration without the keys that name other files.

    Example:
        >>> without_other_files({"transformers_weights": "x.safetensors", "vocab_size": 8})
        {'vocab_size': 8}
    """
    return {key: value for key, value in config.items() if key not in OTHER_FILES}


def vocabulary_size(config: dict[str, Any], lengths: Collection[int] = ()) -> int | None:
    """Rows of the embedding, None where the configuration does not say.

    Args:
        config: The parsed `config.json`. Multimodal models may state a number that was never true
            beside that of their language model, or state it deeper.
        lengths: Of what may be the embedding: of several numbers the first of these is taken.

    Example:
        >>> config = {"vocab_size": 9, "text_config": {"vocab_size": 8}}
        >>> vocabulary_size(config), vocabulary_size(config, [9, 3])
        (8, 9)
    """
    stated = list(_vocabularies(config))
    return next((size for size in stated if size in lengths), next(iter(stated), None))


def _vocabularies(config: dict[str, Any]) -> Iterator[int]:
    """All numbers of tokens that are stated: the language model's, its own, then any other."""
    parts = {key: value for key, value in config.items() if isinstance(value, dict)}
    yield from _vocabularies(parts.pop("text_config")) if "text_config" in parts else ()
    if isinstance(config.get("vocab_size"), int):
        yield int(config["vocab_size"])
    for part in parts.values():
        yield from _vocabularies(part)


TIE = "tie_word_embeddings"


def without_ties(config: dict[str, Any]) -> dict[str, Any]:
    """Copy a configuration with `tie_word_embeddings` false: the head is stored by itself.

    Example:
        >>> without_ties({"text_config": {"tie_word_embeddings": True}})
        {'text_config': {'tie_word_embeddings': False}, 'tie_word_embeddings': False}
    """
    inner = {
        key: {**value, TIE: False}
        for key, value in config.items()
        if isinstance(value, dict) and TIE in value
    }
    return {**config, **inner, TIE: False}


def refuse_unlike(config: dict[str, Any], where: str) -> None:
    """Refuse a setting that has a wrong type.

    Raises:
        FormatError: With the key, and what was expected.

    Example:
        >>> refuse_unlike({"model_type": "llama", "vocab_size": 8}, "config.json")
    """
    for key, (said, kinds) in KINDS.items():
        value = config.get(key)
        if value is not None and not isinstance(value, kinds):
            raise FormatError(f"{key} is {brief(value)}; expected {said}", where=where)


def refuse_oversized(config: dict[str, Any], tensors: int, where: str) -> None:
    """Refuse counts of layers or labels far beyond the number of tensors.

    Args:
        config: The parsed `config.json`, or a part of it.
        tensors: How many the checkpoint holds; no layer is without one, unless it is shared.
        where: What the user calls it.

    Raises:
        FormatError: With the key.

    Example:
        >>> refuse_oversized({"num_hidden_layers": 32}, 291, "model")
    """
    for key, value in config.items():
        if isinstance(value, dict):
            refuse_oversized(value, tensors, where)
        found = COUNTED.search(key)
        if not found or not isinstance(value, int | float | list):
            continue
        most = max(MOST_LAYERS, tensors) if found[1] in LAYERS else MOST_PARTS
        numbers = [n for n in (value if isinstance(value, list) else [value]) if _is_number(n)]
        if wrong := [n for n in numbers if not -most <= n <= most]:
            raise FormatError(
                f"config.json: {key} is {brief(wrong[0])}; expected at most {most:,}",
                where=where,
                remedy="download it again: the file is damaged, or hostile",
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(found: dict[str, Any]) -> Any:
    tag = found.get(TAG) if len(found) == 1 else None
    return SPECIAL.get(tag, found) if isinstance(tag, str) else found


def _tagged(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tagged(one) for key, one in without_other_files(value).items()}
    if isinstance(value, (list, tuple)):
        return [_tagged(one) for one in value]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return {TAG: "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
