"""Messages of chat templates, read from a cell: turns of `role` and `content`, or ShareGPT's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_geo.errors import DataError
from mergekit_geo.files.sound_json import parse_json

TEXT_FLAG = "--text-column"
CHAT = ("messages", "conversations", "conversation")
"""Usual names of a column of messages."""

ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "chatgpt": "assistant", "bot": "assistant", "model": "assistant", "system": "system",
    "tool": "tool", "function": "tool", "observation": "tool", "function_call": "assistant",
}  # fmt: skip
"""Roles of chat templates for ShareGPT's values of `from`."""

SPEAKERS = ("human", "gpt", "chatgpt", "bot", "model")
"""Speakers that no chat template knows: they are renamed under the key `role`, too."""

OF_A_TURN = ("role", "content", "name", "id", "weight", "tool_call_id")
"""Keys of a turn that are not content by themselves."""

Messages = list[dict[str, Any]]


def text_or_messages(
    cells: Mapping[str, Any], column: str, name: str, source: str
) -> str | Messages:
    """What a cell holds, JSON of messages included.

    Args:
        cells: The row.
        column: Of the cell.
        name: What the row is called, for messages.
        source: Where it is from.

    Raises:
        DataError: It holds neither text nor messages.
    """
    cell = cells[column]
    if isinstance(cell, str) and cell.lstrip()[:1] in ("[", "{"):
        cell = _messages_in(cell, column, name, source)
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Mapping):
        cell = _turns_of(cell)
    if isinstance(cell, Sequence) and all(isinstance(part, Mapping) for part in cell):
        return [_message(part, name, source) for part in cell]
    raise DataError(
        f"{name} has neither text nor messages in column {column!r}, found {type(cell).__name__}",
        where=source,
        remedy=f"name the column with {TEXT_FLAG}",
    )


def _messages_in(text: str, column: str, name: str, source: str) -> Any:
    """Messages in a cell of JSON text; the text itself, if it is not a conversation."""
    found = parsed(text)
    if isinstance(found, Mapping):
        inner = next((found[key] for key in CHAT if key in found), None)
        found = [found] if inner is None else inner
    if isinstance(found, list) and found and all(map(_is_turn, found)):
        return found
    if column in CHAT:
        raise DataError(
            f"{name} has text in column {column!r} that begins as messages do, and is not JSON of "
            "any",
            where=source,
            remedy="write the messages as JSON, as json.dumps does",
        )
    return text


def parsed(text: str) -> Any:
    """Parsed JSON; None if the text is not JSON."""
    try:
        return parse_json(text)
    except ValueError:
        return None


def _is_turn(found: Any) -> bool:
    return isinstance(found, Mapping) and ("role" in found or "from" in found)


def _turns_of(cell: Mapping[str, Any]) -> list[Any]:
    """One turn; or several, of which each column is a list, as datasets keeps a `Sequence`."""
    columns = list(cell.values())
    lists = bool(columns) and all(isinstance(column, list) for column in columns)
    if not lists or len({len(column) for column in columns}) > 1:
        return [cell]
    return [dict(zip(cell, turn, strict=True)) for turn in zip(*columns, strict=True)]


def _message(turn: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    """Convert a turn to a message of chat templates.

    Example:
        >>> _message({"from": "gpt", "value": "yes"}, "x.jsonl:1", "x.jsonl")
        {'role': 'assistant', 'content': 'yes'}
    """
    if "role" not in turn and "from" in turn:
        role = ROLES.get(str(turn["from"]).lower())
        if role is None:
            raise DataError(
                f"{name} has a turn 'from' {turn['from']!r}; expected one of {', '.join(ROLES)}",
                where=source,
            )
        rest = {key: value for key, value in turn.items() if key not in ("from", "value")}
        return _textual({"role": role, "content": turn.get("value"), **rest}, name, source)
    if not isinstance(turn.get("role"), str):
        raise DataError(
            f"{name} has a turn with neither 'role' and 'content' nor 'from' and 'value'; its keys "
            f"are {', '.join(map(str, turn)) or 'none'}",
            where=source,
        )
    role = ROLES[turn["role"]] if turn["role"] in SPEAKERS else turn["role"]
    held = {key: cell for key, cell in turn.items() if cell is not None}
    return _textual({**held, "role": role}, name, source)


def _textual(turn: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    """Require that a turn has text, or calls a tool."""
    said = turn.get("content")
    if said is None and not any(cell for key, cell in turn.items() if key not in OF_A_TURN):
        raise DataError(
            f"{name} has a turn of {turn['role']!r} without content",
            where=source,
            remedy="write what it says, or leave the row out",
        )
    is_list = isinstance(said, list | tuple) and all(isinstance(part, Mapping) for part in said)
    if not (said is None or isinstance(said, str) or is_list):
        raise DataError(
            f"{name} has a turn whose content is neither text nor a list of parts, found "
            f"{type(said).__name__}",
            where=source,
        )
    kinds = {part.get("type", "text") for part in said or () if isinstance(part, Mapping)}
    if other := sorted(map(str, kinds - {"text"})):
        raise DataError(
            f"{name} holds {', '.join(other)} beside text; only text can be measured", where=source
        )
    return turn
