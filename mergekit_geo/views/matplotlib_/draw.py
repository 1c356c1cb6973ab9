"""Pictures by matplotlib, as files; the same numbers give the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from mergekit_geo.views import chart
from mergekit_geo.views.matplotlib_.lines import curves, scatters, steps
from mergekit_geo.views.matplotlib_.rows import bars, dots, matrix
from mergekit_geo.views.matplotlib_.surfaces import surfaces
from mergekit_geo.views.scatter import Scatters

FORMATS = ("png", "svg")
DPI = 150
SALT = "mergekit_geo"
"""Salt of the ids in SVG, which are random without one."""


def save(picture: chart.Picture, stem: Path) -> None:
    """Draw a picture into files, as PNG and SVG.

    Args:
        picture: What is drawn.
        stem: Path of the files without their suffix, in a folder that is there.
    """
    figure = draw(picture)
    with rc_context({"svg.hashsalt": SALT}):
        for form in FORMATS:
            undated = {"Date": None} if form == "svg" else None
            path = stem.with_suffix(f".{form}")
            figure.savefig(path, dpi=DPI, metadata=undated, bbox_inches="tight")


def draw(picture: chart.Picture) -> Figure:
    """Draw a picture as a figure."""
    return DRAWN[type(picture)](picture)


DRAWN: dict[type, Callable[[Any], Figure]] = {
    chart.Lines: curves,
    chart.Distributions: steps,
    chart.Dots: dots,
    chart.Bars: bars,
    chart.Heatmap: matrix,
    chart.HeightMaps: surfaces,
    chart.Relief: surfaces,
    Scatters: scatters,
}
