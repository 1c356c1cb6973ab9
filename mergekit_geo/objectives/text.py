"""Documents: the built-in English text, or a user's file.

The built-in text is the documentation that ships in every CPython (`pydoc_data.topics`). Its topics
quote one another: 40 % of their paragraphs stand in two or more, so paragraphs are kept once, the
split is by topic, and a held-out paragraph that shares 48 characters with the training topics is
dropped.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from mergekit_geo.errors import DataError
from mergekit_geo.objectives.settings import BUILTIN, EvalData

Split = Literal["train", "held-out"]
SHARED_RUN = 48
SHORTEST_TOPIC = 200


@dataclass(frozen=True)
class Document:
    """A text and what it is called."""

    name: str
    text: str


def load_documents(data: EvalData) -> list[Document]:
    """The documents that `data` names; the held-out half of the built-in text.

    Raises:
        DataError: Missing, empty, or without the column.
    """
    if data.source == BUILTIN:
        return builtin_documents("held-out")
    path = Path(data.source).expanduser()
    if not path.is_file():
        raise DataError(
            "no such file", where=data.source, remedy=f"give a .txt or .jsonl file, or {BUILTIN}"
        )
    if path.suffix not in _READERS:
        raise DataError(
            f"expected one of {', '.join(_READERS)}", where=data.source, remedy="convert it"
        )
    documents = [d for d in _READERS[path.suffix](path, data.text_column) if d.text.strip()]
    if not documents:
        raise DataError("no text in it", where=data.source)
    return documents


def digest(documents: list[Document]) -> str:
    """SHA-256 of names and texts, in order."""
    total = hashlib.sha256()
    for document in documents:
        total.update(json.dumps([document.name, document.text]).encode())
    return total.hexdigest()


@lru_cache(maxsize=2)
def builtin_documents(split: Split) -> list[Document]:
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
    from pydoc_data.topics import topics

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


def _read_txt(path: Path, _: str) -> list[Document]:
    """Blank lines separate documents."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text: {error.reason}", where=str(path)) from error
    return [Document(f"{path.name}:{i + 1}", part) for i, part in enumerate(_paragraphs(text))]


def _read_jsonl(path: Path, column: str) -> list[Document]:
    """Every row is a document."""
    documents = []
    text = path.read_text("utf-8-sig", errors="replace")
    for number, line in enumerate(text.split("\n"), start=1):  # a string may hold U+2028
        if line.strip():
            documents.append(Document(f"{path.name}:{number}", _cell(path, number, line, column)))
    return documents


def _cell(path: Path, number: int, line: str, column: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"line {number} is not JSON: {error}", where=str(path)) from error
    if not isinstance(row, dict) or not isinstance(row.get(column), str):
        columns = sorted(row) if isinstance(row, dict) else []
        raise DataError(
            f"line {number} has no text in column {column!r}; its columns are "
            f"{', '.join(columns) or 'none'}",
            where=str(path),
            remedy="name the column with --text-column",
        )
    return str(row[column])


_READERS = {".txt": _read_txt, ".jsonl": _read_jsonl}
