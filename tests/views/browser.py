"""A real browser for pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = ("headless=new", "no-sandbox", "disable-background-networking")


@contextmanager
def opened(*flags: str) -> Iterator[Browser]:
    """Open Chromium, and close it at the end.

    Args:
        flags: Of its command line, beside those that all have.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, *flags):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """Headless Chromium.

    Args:
        driver: Selenium's.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def show(self, path: Path, width: int = 1200, *, dark: bool = False) -> None:
        """Open a page, and wait until its pictures are drawn."""
        from selenium.webdriver.support.wait import WebDriverWait

        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(path.as_uri())
        drawn = "return document.documentElement.dataset.drawn || !document.querySelector('.chart')"
        WebDriverWait(self.driver, 60).until(lambda driver: driver.execute_script(drawn))

    def ask(self, script: str) -> Any:
        """What an expression of JavaScript is on the page."""
        return self.driver.execute_script(f"return {script}")

    def complaints(self) -> list[str]:
        """What the console has been told since the last call."""
        return [f"{entry['level']}: {entry['message']}" for entry in self.driver.get_log("browser")]
