"""Local tasks of lm-evaluation-harness, and models that are measured on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mergekit_geo.config.data import EvalData
from mergekit_geo.config.measures import Compute
from mergekit_geo.evaluation.sample import Sample, prepare
from mergekit_geo.modules.load import load_model
from tests.tasks.harness.topics import write

Prepared = Callable[..., Sample]
CPU = Compute(device="cpu")


@pytest.fixture(scope="session")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of task files."""
    return write(tmp_path_factory.mktemp("topics"))


@pytest.fixture(scope="session")
def prepared(topics: Path) -> Prepared:
    """What a model's folder is measured on."""

    def make(folder: Path, tasks: str, compute: Compute = CPU, **settings: Any) -> Sample:
        data = EvalData(f"lm-eval:{tasks}", **{"include_path": str(topics), **settings})
        return prepare(data, folder, json.loads((folder / "config.json").read_text()), compute)

    return make


@pytest.fixture(scope="session")
def trained(family: Path) -> Any:
    """A trained model that reads 64 tokens."""
    return load_model(family / "a", CPU)
