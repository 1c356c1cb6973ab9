"""Every example of the documentation runs, in the order of its page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from scripts.docs.blocks import blocks_of, pages
from tests.docs.running import Session


def runs() -> Iterator[ParameterSet]:
    """Pages with examples; all but the first one that is read are slow."""
    for page in pages():
        if any(block.is_run for block in blocks_of(page)):
            is_slow = page.name != "README.md"
            yield pytest.param(page, marks=[pytest.mark.slow] * is_slow, id=str(page))


@pytest.mark.parametrize("page", runs())
def test_a_page_runs(page: Path, session: Session) -> None:
    for block in blocks_of(page):
        if block.is_run or (block.title and not block.no_run):
            session.run(block)
