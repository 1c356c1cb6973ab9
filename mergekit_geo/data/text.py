"""The built-in English text.

It is the documentation that ships in every CPython (`pydoc_data.topics`). Its topics
quote one another: 40 % of their paragraphs stand in two or more, so paragraphs are kept once, the
split is by topic, and a held-out paragraph that shares 48 characters with the training topics is
dropped.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pydoc_data.topics import topics
from typing import Literal

TextSplit = Literal["train", "held-out"]
SHARED_RUN = 48
SHORTEST_TOPIC = 200


@dataclass(frozen=True)
class Document:
    """A text and its name."""

    name: str
    text: str


@lru_cache(maxsize=2)
def builtin_documents(split: TextSplit) -> list[Document]:
    """One half of the built-in text, without what stands in both."""
    topics = _unique_topics()
    train = [topic for topic in topics if not _is_held_out(topic.name)]
    if split == "train":
        return train
    runs = {run for topic in train for run in _runs(topic.text)}
    kept = (
        Document(topic.name, "\n\n".join(p for p in _paragraphs(topic.text) if _is_new(p, runs)))
        for topic in topics
        if _is_held_out(topic.name)
    )
    return [topic for topic in kept if len(topic.text) >= SHORTEST_TOPIC]


def _is_new(paragraph: str, runs: set[str]) -> bool:
    return runs.isdisjoint(_runs(paragraph))


def _unique_topics() -> list[Document]:
    """Every topic of some length, each paragraph in the first topic (by name) that has it."""
    seen: set[str] = set()
    found = []
    for name in sorted(topics):
        fresh = []
        for paragraph in _paragraphs(topics[name]):
            if (key := " ".join(paragraph.split())) not in seen:
                seen.add(key)
                fresh.append(paragraph)
        found.append(Document(name, "\n\n".join(fresh)))
    return [document for document in found if len(document.text) >= SHORTEST_TOPIC]


def _is_held_out(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] % 4 == 0


def _paragraphs(text: str) -> list[str]:
    return [part for part in re.split(r"\n\s*\n", text) if part.strip()]


def _runs(text: str) -> set[str]:
    flat = " ".join(text.split())
    return {flat[i : i + SHARED_RUN] for i in range(len(flat) - SHARED_RUN + 1)}
