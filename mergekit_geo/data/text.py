"""The built-in texts: documentation and source code that ship with Python.

Each is split by group, a topic or a package. A piece that stands in several documents is kept once,
and a held-out piece that shares 48 characters with the training half is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from mergekit_geo.config.data import BUILTIN, PYTHON_SOURCE
from mergekit_geo.data.held_out import Pieces, distinct, held_out_half, training_half
from mergekit_geo.data.python_docs import python_docs
from mergekit_geo.data.python_source import python_source

TextSplit = Literal["train", "held-out"]

COLLECTIONS: dict[str, Callable[[], list[Pieces]]] = {
    BUILTIN: python_docs,
    PYTHON_SOURCE: python_source,
}
"""Documents of a built-in text, by the name of the text."""


@dataclass(frozen=True)
class Document:
    """A text and its name."""

    name: str
    text: str


@cache
def builtin_documents(split: TextSplit, source: str = BUILTIN) -> list[Document]:
    """One half of a built-in text, without what stands in both.

    Args:
        split: Which half.
        source: One of `config.data.BUILTINS`.
    """
    half = training_half if split == "train" else held_out_half
    return [Document(found.name, found.text) for found in half(_documents(source))]


@cache
def _documents(source: str) -> list[Pieces]:
    return distinct(COLLECTIONS[source]())
