"""A new task is its own file, which this one is, and a line in the table of tasks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor
from torch.nn import Module

import mergekit_geo as geo
from mergekit_geo.tasks import causal_lm
from mergekit_geo.tasks.kind import TaskInputs
from mergekit_geo.tasks.table import TASKS
from mergekit_geo.tasks.task import BatchLosses, Task


class Doubled(causal_lm.CausalLM):
    """Twice the loss of the next token, so that anybody can tell what was measured."""

    name = "doubled-lm"  # type: ignore[assignment]

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """Losses of a batch."""
        found = super().losses(model, batch)
        return replace(found, loss=2 * found.loss)


def make(parts: TaskInputs) -> Task:
    """The same inputs as those of next-token prediction."""
    tokenizer = parts.tokenizer()
    return Doubled(tokenizer, 32, parts.vocabulary(tokenizer), parts.data, parts.note)


KIND = replace(causal_lm.KIND, name=Doubled.name, make=make)


def test_it_is_measured_by_its_name(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, KIND.name, KIND)
    rows = [{"text": f"The value of item {i} is {i * i}."} for i in range(30)]
    text = tmp_path / "rows.jsonl"
    text.write_text("\n".join(map(json.dumps, rows)))
    models = [family / "a", family / "b"]

    def losses(task: str) -> list[float]:
        data = geo.EvalData(str(text), task=task)
        found = geo.barrier(models, points=3, data=data).measurements.losses
        return [entry.loss for entry in found]

    assert losses("doubled-lm") == pytest.approx([2 * loss for loss in losses("causal-lm")])
