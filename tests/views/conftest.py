"""One browser for all pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.views.browser import Browser, opened


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Tests that want it are skipped where there is none."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    with opened("enable-unsafe-swiftshader") as found:  # surfaces need WebGL
        yield found
