"""A tokenizer, and tiny models with the tasks that their folders make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from mergekit_geo.config.data import EvalData
    from mergekit_geo.tasks.task import Task
    from tests.tasks.tiny import Make


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE with BERT's special tokens, trained on the built-in text."""
    from tests.tasks.tiny import make_tokenizer

    return make_tokenizer()


@pytest.fixture
def make(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Make:
    """A random model of a class, saved, and the task that its folder makes."""
    import torch

    from mergekit_geo.config.data import EvalData
    from mergekit_geo.config.measures import Compute
    from mergekit_geo.tasks.table import make_task, task_name

    def made(
        architecture: Any,
        config: Any,
        data: EvalData | None = None,
        asked: str | None = None,
        tweak: Mapping[str, Any] | None = None,
    ) -> tuple[PreTrainedModel, Task]:
        torch.manual_seed(0)
        model = architecture(config).eval()
        model.config.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        parsed = json.loads((tmp_path / "config.json").read_text())
        parsed = {**parsed, "architectures": [architecture.__name__], **(tweak or {})}
        name = task_name(parsed, asked)
        return model, make_task(name, tmp_path, parsed, data or EvalData(), Compute())

    return made
