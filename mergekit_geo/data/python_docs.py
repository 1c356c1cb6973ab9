"""Topics of the documentation that ships in every CPython (`pydoc_data.topics`).

They quote one another: 40 % of their paragraphs stand in two or more.
"""

from __future__ import annotations

import re
from pydoc_data.topics import topics

from mergekit_geo.data.held_out import Pieces


def python_docs() -> list[Pieces]:
    """Every topic by name, in paragraphs; a topic is a group of its own."""
    return [Pieces(name, name, _paragraphs(topics[name])) for name in sorted(topics)]


def _paragraphs(text: str) -> list[str]:
    return [part for part in re.split(r"\n\s*\n", text) if part.strip()]
