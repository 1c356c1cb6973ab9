"""Every example of the documentation runs, in the order of its page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from scripts.docs.blocks import blocks_of, pages
from tests.docs.running import Session

TRAINS = re.compile(r"finetune|train[-_]data|SoupCallback")
"""What takes longer than merging and measuring."""


def runs() -> Iterator[ParameterSet]:
    """Pages with examples; those in which something is trained are slow."""
    for page in pages():
        found = [block for block in blocks_of(page) if block.is_run]
        is_slow = any(TRAINS.search(block.text) for block in found)
        if found:
            yield pytest.param(page, marks=[pytest.mark.slow] * is_slow, id=str(page))


@pytest.mark.parametrize("page", runs())
def test_a_page_runs(page: Path, session: Session) -> None:
    for block in blocks_of(page):
        if block.is_run or (block.title and not block.no_run):
            session.run(block)
