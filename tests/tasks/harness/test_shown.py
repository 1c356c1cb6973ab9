"""One question of a benchmark, as `--show-example` tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergekit_geo.evaluation.example import told_example
from mergekit_geo.tasks.shown import shown
from tests.tasks.harness.conftest import Prepared


@pytest.mark.parametrize(
    ("task", "marks", "beginning"),
    [("topics", 1, "Text: "), ("last_word", 1, ""), ("pages", 1, "⟦"), ("next_word", 1, "")],
)
def test_right_answers_are_in_brackets(
    family: Path, prepared: Prepared, task: str, marks: int, beginning: str
) -> None:
    sample = prepared(family / "a", task, limit=2)
    text = shown(sample.objective.task, sample.objective.kept[0])
    assert text.startswith(beginning)
    assert text.count("⟦") == text.count("⟧") == marks
    if task == "topics":
        assert len(text.split("\nTopic:\n")[1].split("\n")) == 4, "a line for each answer"
    lines = list(told_example("quiz", f"lm-eval:{task}", sample))
    assert lines[0] == f"quiz: lm-eval, from lm-eval:{task}"
