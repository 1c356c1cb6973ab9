"""A little text to train on."""

import json
from pathlib import Path

import pytest

from mergekit_geo.data.text import builtin_documents


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve documents that are not among those held out."""
    path = tmp_path_factory.mktemp("text") / "train.jsonl"
    lines = [json.dumps({"text": d.text[:400]}) for d in builtin_documents("train")[:12]]
    path.write_text("\n".join(lines))
    return path
