"""One PostgreSQL for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.searches.postgres import served


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a database; tests that want it are skipped where PostgreSQL is not installed."""
    with served() as url:
        yield url


@pytest.fixture(params=["journal", "postgres"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A journal file, then a database."""
    if request.param == "journal":
        return str(tmp_path / "s.journal")
    url: str = request.getfixturevalue("postgres")
    return url
