"""One browser for all pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.views.browser import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Tests that want it are skipped where there is none."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("headless=new", "no-sandbox", "disable-background-networking"):
        options.add_argument(f"--{flag}")
    options.add_argument("--enable-unsafe-swiftshader")  # surfaces need WebGL
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield Browser(driver)
    driver.quit()
