"""The picture of a report in README and on the first page: the top of its page, in Chromium.

geo-merge soup demo/a demo/b demo/c -o demo/soup
python -m scripts.docs.picture demo/soup/report.html docs/images/report.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from tests.views.browser import opened

WIDTH, HEIGHT = 1000, 898
COLORS = 128
"""Of a palette: a quarter of the bytes, and text looks the same."""


def take(page: Path, picture: Path, height: int = HEIGHT) -> None:
    """Draw the top of a page.

    Args:
        page: `report.html` of an output.
        picture: PNG to write.
        height: Pixels from the top.
    """
    with opened("hide-scrollbars", f"window-size={WIDTH},{height}") as browser:
        browser.show(page.resolve(), WIDTH)
        browser.driver.save_screenshot(str(picture))
    with Image.open(picture) as drawn:
        drawn.crop((0, 0, WIDTH, height)).convert("RGB").quantize(COLORS).save(
            picture, optimize=True
        )


if __name__ == "__main__":
    take(Path(sys.argv[1]), Path(sys.argv[2]))
