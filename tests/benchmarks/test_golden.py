"""The golden guard sees what differs, and overlooks only what it is told to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import golden_difference as guard
from benchmarks import golden_steps as steps

WORDS = guard.Leniency(words=True)
STRICT = guard.Leniency()
SHA, OTHER = "0" * 64, "1" * 64


def case(loss: object = 1.5, **changed: Any) -> dict[str, Any]:
    report = {"result": {"loss": loss}, "settings": {"rho": 0.05}, "warnings": ["high"]}
    files = {"out/report.json": report, "out/model.safetensors": SHA, "out/README.md": ["# out"]}
    step = {"exit": 0, "stdout": ["a table"], "stderr": []}
    return {"steps": {"soup a b": {**step, **changed}}, "files": files}


def found(new: dict[str, Any], lenient: Any = STRICT) -> list[str]:
    return list(guard.differences(case(), new, lenient))


def test_the_same_differs_in_nothing() -> None:
    assert found(case()) == []


@pytest.mark.parametrize("lenient", [STRICT, WORDS])
def test_exit_codes_numbers_weights_and_files_always_count(lenient: Any) -> None:
    assert found(case(exit=3), lenient) == ["steps > soup a b > exit: 0 -> 3"]
    last_bit = case(loss=1.5000000000000002)
    assert found(last_bit, lenient) == [
        "files > out/report.json > result > loss: 1.5 -> 1.5000000000000002"
    ]
    assert len(found(case(loss=None), lenient)) == 1
    assert len(found(case(loss="1.5"), lenient)) == 1
    other = case()
    other["files"]["out/model.safetensors"] = OTHER
    assert len(found(other, lenient)) == 1
    other["files"]["out/left.partial"] = OTHER
    assert len(found(other, lenient)) == 2
    del other["files"]["out/report.json"]["result"]["loss"]
    assert len(found(other, lenient)) == 3


def test_words_may_differ_where_that_is_asked_for() -> None:
    new = case(stdout=["another table", "of two lines"], stderr=["a remark"])
    report = new["files"]["out/report.json"]
    report["warnings"], report["settings"] = ["too high"], {"radius": 0.05}
    new["files"]["out/README.md"] = ["# Out"]
    assert found(new, WORDS) == []
    assert len(found(new)) == 3 + 1 + 1 + 2 + 2


def test_times_and_places_are_left_out_and_numbers_are_kept(tmp_path: Path) -> None:
    line = f"{tmp_path}/a took 12 s at 2026-11-29T00:40:20Z"
    text = json.dumps({"seconds": 1.5, "loss": 1.5, "said": line})
    said = {"seconds": "HOW LONG IT TOOK", "loss": 1.5, "said": "HERE/a took TIME at DATE"}
    assert steps.parsed(text, tmp_path) == said
