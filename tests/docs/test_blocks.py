"""Every example of the documentation runs, in the order of its page."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scripts.docs.blocks import blocks_of, pages
from tests.docs.place import furnish
from tests.docs.running import Session
from tests.docs.small import make_small

LATER = {Path("README.md")}
PAGES = [
    page for page in pages() if page not in LATER and any(block.is_run for block in blocks_of(page))
]


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that examples name."""
    folder = tmp_path_factory.mktemp("docs")
    furnish(folder)
    return folder


@pytest.fixture
def session(furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A copy of it to work in."""
    folder = shutil.copytree(furnished, tmp_path / "page", symlinks=True)
    monkeypatch.chdir(folder)
    make_small(monkeypatch)
    return Session(folder)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_runs(page: Path, session: Session) -> None:
    for block in blocks_of(page):
        if block.is_run or (block.title and not block.no_run):
            session.run(block)
