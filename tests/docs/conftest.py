"""A folder in which the documentation's examples run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import made_once
from tests.docs.place import furnish
from tests.docs.running import Session
from tests.docs.small import make_small


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that examples name."""
    return made_once(tmp_path_factory, "docs", furnish)


@pytest.fixture
def session(furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A copy of it to work in."""
    folder = shutil.copytree(furnished, tmp_path / "page", symlinks=True)
    monkeypatch.chdir(folder)
    make_small(monkeypatch)
    return Session(folder)
