"""Ids in settings follow their tokens, in every form that models have them in."""

from __future__ import annotations

from typing import Any

import pytest

from mergekit_geo.checkpoints.reshape.token_ids import moved_ids

MOVED = {0: 7, 2: 3}


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("image_token_index", 2, 3),
        ("pad_token_id", None, None),
        ("pad_token_id", -1, -1),
        ("eos_token_id", [5], "gone"),
        ("audio_token_id", 5, "gone"),
        ("suppress_tokens", [], []),
        ("bad_words_ids", [[0, 5], [0, 2]], [[7, 3]]),
        ("lang_to_id", {"<|en|>": 2, "<|xx|>": 5}, {"<|en|>": 3}),
        ("forced_decoder_ids", [[1, None], [2, 0], [3, 5]], [[1, None], [2, 7], [3, None]]),
        ("forced_decoder_ids", [4], [4]),
        ("label2id", {"a": 2}, {"a": 2}),
        ("mm_tokens_per_image", 2, 2),
    ],
)
def test_ids_follow(key: str, before: Any, after: Any) -> None:
    for gone in (None, -1):
        told: list[str] = []
        found = moved_ids({"text_config": {key: before}}, MOVED.get, "config.json", told, gone)
        assert found == {"text_config": {key: gone if after == "gone" else after}}
        assert len(told) == str(before).count("5")
