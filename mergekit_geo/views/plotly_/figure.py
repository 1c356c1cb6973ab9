"""What figures share: colours, titles, and escaped texts, as plotly reads markup in every text.

Colours of paper, ink and grid come from the page, which knows whether it is light or dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

Json = dict[str, Any]
INK, MUTED, PAPER = "#1b1b1b", "#8a8a8a", "#ffffff"
FEW = 12
"""Most rows of a matrix that are tall, and most counts that each have a tick."""
ABREAST = 3
"""Most panels that have room for several ticks."""


def figure(traces: Sequence[Json], height: int, **layout: Any) -> Json:
    """Traces and their layout."""
    return {"data": list(traces), "layout": {"height": height, **layout}}


def axes(x_title: str, y_title: str) -> Json:
    """Both axes with their titles."""
    return {"xaxis": titled(x_title), "yaxis": titled(y_title)}


def titled(words: str) -> Json:
    """An axis with its title."""
    return {"title": {"text": escape(words)}}


def texts(names: Sequence[str]) -> list[str]:
    """Texts without markup."""
    return [escape(name) for name in names]
