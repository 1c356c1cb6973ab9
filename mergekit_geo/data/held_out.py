"""Two halves of a collection of documents, of which one holds nothing that stands in the other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

SHARED_RUN = 48
"""Characters in a row that no held-out piece shares with the training half."""

SHORTEST = 200
"""Characters of the shortest document that is kept."""

HELD_OUT = 4
"""One group in so many is held out."""


@dataclass(frozen=True)
class Pieces:
    """A document in pieces that can be left out one by one.

    Attributes:
        name: Of the document.
        group: What it belongs to; a group is held out whole.
        pieces: Such as paragraphs, or the methods of a class.
    """

    name: str
    group: str
    pieces: Sequence[str]

    @property
    def text(self) -> str:
        """The pieces with a blank line between them."""
        return "\n\n".join(self.pieces)

    @property
    def is_held_out(self) -> bool:
        """Whether its group is, by a hash of the group's name."""
        return hashlib.sha256(self.group.encode()).digest()[0] % HELD_OUT == 0


def distinct(documents: Iterable[Pieces]) -> list[Pieces]:
    """Keep every piece once, in the first document that has it; spaces do not tell pieces apart.

    Example:
        >>> found = distinct([Pieces("a", "a", ["x" * 200]), Pieces("b", "b", ["x" * 200])])
        >>> [document.name for document in found]
        ['a']
    """
    seen: set[str] = set()
    return _long(_fresh(document, seen) for document in documents)


def _fresh(document: Pieces, seen: set[str]) -> Pieces:
    kept = []
    for piece in document.pieces:
        if (key := _flat(piece)) not in seen:
            seen.add(key)
            kept.append(piece)
    return replace(document, pieces=kept)


def training_half(documents: Iterable[Pieces]) -> list[Pieces]:
    """Documents whose group is not held out."""
    return [document for document in documents if not document.is_held_out]


def held_out_half(documents: Sequence[Pieces]) -> list[Pieces]:
    """Held-out documents without the pieces that share a run with the training half."""
    held_out = [document for document in documents if document.is_held_out]
    own = {run for document in held_out for piece in document.pieces for run in _runs(piece)}
    train = (run for document in training_half(documents) for run in _runs(document.text))
    shared = {run for run in train if run in own}
    return _long(
        replace(one, pieces=[piece for piece in one.pieces if shared.isdisjoint(_runs(piece))])
        for one in held_out
    )


def _long(documents: Iterable[Pieces]) -> list[Pieces]:
    return [document for document in documents if len(document.text) >= SHORTEST]


def _flat(text: str) -> str:
    return " ".join(text.split())


def _runs(text: str) -> Iterator[str]:
    flat = _flat(text)
    return (flat[i : i + SHARED_RUN] for i in range(len(flat) - SHARED_RUN + 1))
