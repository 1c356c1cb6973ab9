"""Sets of which nothing is left after cleaning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import mergekit_geo as geo
from mergekit_geo.errors import DataError


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": " "}, {"text": None}], "every row is empty in column 'text'"),
        ([{"messages": []}], "every row is empty in column 'messages'"),
        ([{"prompt": "a", "completion": ""}], "every row is empty in column 'completion'"),
        ([{"instruction": "a", "output": None}], "every row is empty in column 'output'"),
        ([{"chosen": "a", "rejected": None}], "every row is empty in column 'chosen' or 'reje"),
        ([{"messages": [{"role": "system", "content": "a"}]}], "the roles are system"),
        ([{"text": "a"}], "too short: no document has two tokens"),
        ([], "no documents in it"),
    ],
)
def test_a_set_that_is_empty_after_cleaning_is_named(
    family: Path, tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    data = {"docs": geo.EvalData("builtin:python-docs", max_examples=9), "chat": str(path)}
    with pytest.raises(DataError, match=rf"chat: .*chat\.jsonl.*: .*{message}"):
        geo.soup([family / "a", family / "b"], data=data, sharpness="off")
