"""Pictures as plotly.js takes them on a page: plain data and layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mergekit_geo.views import chart
from mergekit_geo.views.plotly_.figure import Json
from mergekit_geo.views.plotly_.lines import curves, scatter, steps
from mergekit_geo.views.plotly_.rows import bars, dots, matrix
from mergekit_geo.views.plotly_.surfaces import contours, relief
from mergekit_geo.views.scatter import Scatters


def figures(picture: chart.Picture) -> list[Json]:
    """Figures of a picture: one, or one for each panel; `width` is the most that one takes."""
    if isinstance(picture, chart.Lines | chart.Distributions | chart.Heatmap):
        return [WHOLE[type(picture)](picture)]
    return [OF_PANELS[type(picture)](panel, picture) for panel in picture.panels]


WHOLE: dict[type, Callable[[Any], Json]] = {
    chart.Lines: curves,
    chart.Distributions: steps,
    chart.Heatmap: matrix,
}

OF_PANELS: dict[type, Callable[[Any, Any], Json]] = {
    chart.Dots: dots,
    chart.Bars: bars,
    chart.HeightMaps: contours,
    chart.Relief: relief,
    Scatters: scatter,
}
