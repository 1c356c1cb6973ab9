"""The examples of the page on SAM, as a user runs them."""

import os
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from mergekit_geo.data.text import builtin_documents
from tests.conftest import ROOT
from tests.forks import FORKS

EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize("name", ["sam_trainer", "sam_loop"])
def test_the_page_shows_it(name: str) -> None:
    body = (EXAMPLES / f"{name}.py").read_text().split('"""\n', 1)[1].strip()
    assert f"```python\n{body}\n```" in (ROOT / "docs" / "sam.md").read_text()


@pytest.mark.parametrize("name", ["sam_trainer", "sam_loop"])
@pytest.mark.slow
def test_it_trains(family: Path, tmp_path: Path, name: str) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(document.text for document in builtin_documents("train"))[:6_000])
    words = [EXAMPLES / f"{name}.py", family / "base", text, "out"]
    done = FORKS([*map(str, words)], tmp_path, os.environ)
    assert done.returncode == 0, done.stderr
    assert "mode='per-replica'" in done.stdout
    assert "skipped=0" in done.stdout
    before = AutoModelForCausalLM.from_pretrained(family / "base")
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    distance = sum(
        float((b - a).detach().square().sum())
        for a, b in zip(before.parameters(), after.parameters(), strict=True)
    )
    assert 0 < distance < 100
