"""Ids of tokens in `config.json` and `generation_config.json`, as rows are put elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mergekit_geo.checkpoints.checkpoint import Config

IDS = re.compile(r"(^|_)token_(ids?|index)$|^(begin_)?suppress_tokens$|^bad_words_ids$")
"""Keys whose values are ids, or lists of these."""

Move = Callable[[int], int | None]


def moved_ids(config: Config, move: Move, where: str, warnings: list[str]) -> Config:
    """Copy settings with ids of tokens as they are now.

    Args:
        config: The parsed file, or a part of it.
        move: From an id to the new one; None for one whose token is no more.
        where: Name of the file, for warnings.
        warnings: Is told of tokens that are no more.

    Example:
        >>> moved_ids({"eos_token_id": [2, 5], "text_config": {"pad_token_id": 0}},
        ...           {0: 7, 2: 3}.get, "config.json", told := [])
        {'eos_token_id': [3], 'text_config': {'pad_token_id': 7}}
        >>> told
        ['config.json: eos_token_id 5 is no token of the output: left out']
    """

    def of(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return moved_ids(value, move, where, warnings)
        return _moved(value, move, where, key, warnings) if IDS.search(str(key)) else value

    return {key: of(key, value) for key, value in config.items()}


def _moved(value: Any, move: Move, where: str, key: str, warnings: list[str]) -> Any:
    if isinstance(value, list):
        found = [_moved(one, move, where, key, warnings) for one in value]
        return [one for one in found if one is not None]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return value
    new = move(value)
    if new is None:
        warnings.append(f"{where}: {key} {value} is no token of the output: left out")
    return new
