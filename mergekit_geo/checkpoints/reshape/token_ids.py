"""Ids of tokens in `config.json` and `generation_config.json`, as rows are put elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mergekit_geo.checkpoints.checkpoint import Config

IDS = re.compile(
    r"(^|_)token_(ids?|index)$|^(begin_)?suppress_tokens$|^(bad|force)_words_ids$|^(lang|task)_to_id$"
)
"""Keys whose values are ids, or lists or objects of these."""

PLACED = "forced_decoder_ids"
"""A list of pairs: a place, and an id or null."""

Move = Callable[[int], int | None]


def moved_ids(
    config: Config, move: Move, where: str, warnings: list[str], gone: int | None = None
) -> Config:
    """Copy settings with ids of tokens as they are now.

    Args:
        config: The parsed file, or a part of it.
        move: From an id to the new one; None for one whose token is no more.
        where: Name of the file, for warnings.
        warnings: Is told of tokens that are no more.
        gone: What a key says all of whose tokens are no more.

    Example:
        >>> moved_ids({"eos_token_id": [2, 5], "text_config": {"pad_token_id": 0}},
        ...           {0: 7, 2: 3}.get, "config.json", told := [])
        {'eos_token_id': [3], 'text_config': {'pad_token_id': 7}}
        >>> told
        ['config.json: eos_token_id 5 is no token of the output: left out']
        >>> moved_ids({"bad_words_ids": [[0], [2, 5]], "pad_token_id": 5}, {0: 7, 2: 3}.get, "", [])
        {'bad_words_ids': [[7]], 'pad_token_id': None}
    """
    return _Moving(move, where, warnings, gone).settings(config)


@dataclass(frozen=True)
class _Moving:
    """How ids are moved, as `moved_ids` is told."""

    move: Move
    where: str
    warnings: list[str]
    gone: int | None

    def settings(self, config: Config) -> Config:
        return {key: self.value(str(key), one) for key, one in config.items()}

    def value(self, key: str, value: Any) -> Any:
        if key == PLACED and isinstance(value, list):
            return [self.last(key, pair) if isinstance(pair, list) else pair for pair in value]
        if not IDS.search(key):
            return self.settings(value) if isinstance(value, dict) else value
        if isinstance(value, dict):
            return {
                name: new for name, one in value.items() if (new := self.one(key, one)) is not None
            }
        if isinstance(value, list):
            found = [new for one in value if (new := self.some(key, one)) is not None]
            return found if found or not value else self.gone
        moved = self.one(key, value)
        return self.gone if moved is None and value is not None else moved

    def some(self, key: str, value: Any) -> Any:
        """An id, or a sequence, which is none without one of its tokens."""
        if not isinstance(value, list):
            return self.one(key, value)
        found = [self.one(key, one) for one in value]
        return None if None in found else found

    def last(self, key: str, pair: list[Any]) -> list[Any]:
        return [*pair[:-1], *(self.one(key, one) for one in pair[-1:])]

    def one(self, key: str, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            return value
        new = self.move(value)
        if new is None:
            self.warnings.append(f"{self.where}: {key} {value} is no token of the output: left out")
        return new
