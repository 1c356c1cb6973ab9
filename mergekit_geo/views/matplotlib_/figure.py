"""What figures share: colours, markers, captions and panels."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, PAPER = "#1b1b1b", "#8a8a8a", "white"
MARKERS = {
    "circle": "o", "square": "s", "triangle-up": "^", "diamond": "D", "cross": "P", "x": "X",
    "star": "*", "circle-open": "o",
}  # fmt: skip
DASHES: dict[str, Any] = {
    "solid": "-", "dash": "--", "dashdot": "-.", "longdash": (0, (9, 3)),
    "longdashdot": (0, (9, 3, 1, 3)),
}  # fmt: skip
WORDS = 108
"""Characters in a line of a caption."""


def captioned(figure: Figure, caption: str) -> Figure:
    """Stand a caption below a figure."""
    lines = textwrap.fill(escaped(caption), max(40, int(WORDS * figure.get_figwidth() / 7)))
    figure.text(0.01, -0.02, lines, fontsize=7.5, color=MUTED, va="top")
    return figure


def rows_and_columns(count: int, abreast: int) -> tuple[int, int]:
    """Rows and columns of so many panels, of which some stand abreast."""
    columns = min(count, abreast)
    return math.ceil(count / columns), columns


def single(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one panel."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, plain(figure.add_subplot())


def plain(axes: Axes) -> Axes:
    """A panel with a faint grid, and without a frame above and at the right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(visible=True, color=MUTED, alpha=0.2, linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def escaped(words: str) -> str:
    """Text that matplotlib takes for no mathematics."""
    return words.replace("$", r"\$")
