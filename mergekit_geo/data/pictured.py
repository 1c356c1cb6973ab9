"""Conversations with pictures, which stand in the messages of a row or in a column beside them.

A message's content is a list of parts, `{"type": "image"}` with the picture under `image`, `path`,
`bytes`, `url` or `image_url`, or without one: then the row's column of images has it. In text,
`<image>` stands for a picture of that column, as LLaVA's data has it. Where no place is marked, the
column's pictures stand before what the user says first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from mergekit_geo.data.documents import Chat, PlainText
from mergekit_geo.data.rows import LOOKED_AT, Row, Rows, find_column, is_empty
from mergekit_geo.errors import DataError

COLUMNS = ("images", "image", "img", "picture")
"""Usual names of a column of pictures."""

KINDS = ("image", "image_url")
PAYLOAD = ("image", "path", "bytes", "url", "image_url", "base64")
"""Types of a part that is a picture, and keys under which it is."""

MARK = "\ue000"
"""What stands for a picture in text, where no text has it: a character of private use."""

WRITTEN = "<image>"


@dataclass(frozen=True)
class Pictured:
    """A row's cells with marks in place of pictures, and the pictures in order.

    Attributes:
        cells: The row's.
        pictures: As `decode_image` takes them.
    """

    cells: Mapping[str, Any]
    pictures: tuple[Any, ...]


def image_column(rows: Rows, asked: str | None) -> str | None:
    """The column of pictures: that which is named, else one of a usual name; None without one.

    Raises:
        DataError: No column of that name.
    """
    if asked is not None:
        return find_column(rows, asked, (), "images", "--image-column")
    return next((name for name in COLUMNS if name in rows.columns), None)


def has_pictures(rows: Rows, asked: str | None) -> bool:
    """Whether rows hold pictures: in a column, or among the parts of messages."""
    column = image_column(rows, asked)
    some = list(islice(rows.cells, LOOKED_AT))
    if column is not None and any(not is_empty(cells[column]) for cells in some):
        return True
    return any(_pictures_in(cell) for cells in some for cell in cells.values())


def pictured(rows: Rows, row: int, column: str | None) -> Pictured:
    """A row with marks in place of its pictures.

    Args:
        rows: The data.
        row: Index of the row.
        column: Of images; None where there is none.

    Raises:
        DataError: There are more places for pictures than pictures, or fewer.
    """
    cells = rows.cells[row]
    beside = _beside(None if column is None else cells[column])
    lifter = _Lifter(bool(beside))
    marked = {name: cell if name == column else lifter.lifted(cell) for name, cell in cells.items()}
    places, own = lifter.found, Row(marked, rows.names[row], rows.source)
    if None not in places and beside:
        if places:
            _refuse(rows, row, len(places), len(places) + len(beside))
        return Pictured(own, tuple(beside))
    if (count := places.count(None)) != len(beside):
        _refuse(rows, row, count, len(beside))
    rest = iter(beside)
    pictures = tuple(next(rest) if place is None else place for place in places)
    return Pictured(own, pictures)


def with_pictures(document: PlainText | Chat, count: int, name: str) -> Chat:
    """A conversation whose content has parts where its marks are.

    A text is what the assistant says to its prompt. Pictures that no mark stands for come first in
    what the user says first.

    Args:
        document: With marks, or without any.
        count: How many pictures it has.
        name: What its row is called.
    """
    chat = document if isinstance(document, Chat) else _chat(document, name)
    marks = sum(_text_of(message).count(MARK) for message in chat.messages)
    messages = [dict(message) for message in chat.messages]
    if count and not marks:
        first = next((m for m in messages if m.get("role") == "user"), messages[0])
        first["content"] = MARK * count + _text_of(first)
    return replace(chat, messages=[_parted(message) for message in messages])


def _chat(document: PlainText, name: str) -> Chat:
    said = document.text.replace(MARK, "")
    asked = MARK * document.text.count(MARK) + document.prompt
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return Chat(turns, 1, None, name)


class _Lifter:
    """Takes pictures out of cells, and remembers them in order; None for one of the column."""

    def __init__(self, in_column: bool) -> None:
        self.in_column, self.found = in_column, list[Any]()

    def lifted(self, cell: Any) -> Any:
        if isinstance(cell, list | tuple):
            return [self._turn(turn) for turn in cell]
        return self._text(cell) if isinstance(cell, str) else cell

    def _turn(self, turn: Any) -> Any:
        if not isinstance(turn, Mapping):
            return turn
        lifted = {name: self._said(turn[name]) for name in ("content", "value") if name in turn}
        return {**turn, **lifted}

    def _said(self, said: Any) -> Any:
        if isinstance(said, list | tuple):
            return [self._part(part) for part in said]
        return self._text(said) if isinstance(said, str) else said

    def _part(self, part: Any) -> Any:
        if not isinstance(part, Mapping) or part.get("type") not in KINDS:
            return part
        self.found.append(_payload(part))
        return {"type": "text", "text": MARK}

    def _text(self, text: str) -> str:
        if not self.in_column:
            return text
        self.found += [None] * text.count(WRITTEN)
        return text.replace(f"{WRITTEN}\n", MARK).replace(WRITTEN, MARK)


def _payload(part: Mapping[str, Any]) -> Any:
    """What a part holds; None where it only says that there is a picture."""
    found = next((part[key] for key in PAYLOAD if not is_empty(part.get(key))), None)
    url = found.get("url") if isinstance(found, Mapping) else None
    return found if url is None else url


def _beside(cell: Any) -> list[Any]:
    if cell is None or (not hasattr(cell, "convert") and is_empty(cell)):
        return []
    several = isinstance(cell, list | tuple) and not isinstance(cell[0], int | float | list)
    return list(cell) if several else [cell]


def _refuse(rows: Rows, row: int, places: int, found: int) -> None:
    raise DataError(
        f"{rows.names[row]} has places for {places} images and holds {found}",
        where=rows.source,
        remedy="give every part of type image its image, or as many in the column of images",
    )


def _pictures_in(cell: Any) -> bool:
    lifter = _Lifter(in_column=False)
    lifter.lifted(cell)
    return bool(lifter.found)


def _text_of(message: Mapping[str, Any]) -> str:
    said = message.get("content") or ""
    if isinstance(said, str):
        return said
    return "".join(str(part.get("text") or "") for part in said)


def _parted(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as parts of text and pictures, where it has pictures."""
    text = _text_of(message)
    if MARK not in text:
        return dict(message)
    parts: list[dict[str, str]] = []
    for number, piece in enumerate(text.split(MARK)):
        parts += [{"type": "image"}] if number else []
        parts += [{"type": "text", "text": piece}] if piece else []
    return {**message, "content": parts}
