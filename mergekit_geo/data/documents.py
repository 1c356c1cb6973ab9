"""What a row of a language model's data is: text, a prompt and its completion, a conversation.

Known shapes of rows, the first that the columns allow:
- `messages` (or `conversations`): turns of `role` and `content`, or ShareGPT's `from` and `value`;
  the columns `tools` and `system` go with them.
- `prompt` and `completion` (or `response`), both text or both messages: the completion counts.
- `chosen` and `rejected`, with or without `prompt`: the chosen answer counts.
- `text` and other usual names: all of it counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mergekit_geo.config.data import EvalData
from mergekit_geo.data.rows import Rows, find_column, is_empty
from mergekit_geo.errors import DataError
from mergekit_geo.files.sound_json import parse_json

TEXT = ("text", "content", "document", "article", "sentence", "body", "prompt")
CHAT = ("messages", "conversations", "conversation")
PROMPT, CHOSEN, REJECTED = "prompt", "chosen", "rejected"
COMPLETION = ("completion", "response")
TEXT_FLAG, LABEL_FLAG = "--text-column", "--label-column"

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


@dataclass(frozen=True)
class PlainText:
    """A plain text.

    Attributes:
        text: Every token counts.
        prompt: What comes before it and does not count.
    """

    text: str
    prompt: str = ""

    def counted(self, *, only_assistant: bool) -> str:
        """The text that counts: with the prompt, where not only answers do."""
        return self.text if only_assistant else self.prompt + self.text


@dataclass(frozen=True)
class Chat:
    """A conversation.

    Attributes:
        messages: Turns of `role` and `content`.
        given: How many of the first turns do not count.
        tools: As chat templates take them; None if there are none.
        name: What its row is called, for messages.
    """

    messages: Messages
    given: int = 0
    tools: list[Any] | None = None
    name: str = ""

    @property
    def answers(self) -> list[int]:
        """Indices of the assistant's messages after those that are given."""
        roles = [message["role"] for message in self.messages]
        return [
            turn for turn, role in enumerate(roles) if role == "assistant" and turn >= self.given
        ]

    def counted(self, *, only_assistant: bool) -> str:
        """What the messages that count say, without what a chat template writes around it.

        Example:
            >>> Chat([{"role": "user", "content": "2 + 2"}, {"role": "assistant", "content": "4"}]
            ... ).counted(only_assistant=True)
            '4'
        """
        turns = self.answers if only_assistant else range(len(self.messages))
        return "".join(_said(self.messages[turn]) for turn in turns)


@dataclass(frozen=True)
class Shape:
    """The columns that hold text, prompt, completion or messages.

    Attributes:
        answer: The column of what counts.
        prompt: The column of what comes before it; None if there is none.
        rejected: The column of the answer that was not chosen, whose common beginning with the
            chosen one is the prompt; None if there is none.
    """

    answer: str
    prompt: str | None = None
    rejected: str | None = None

    @classmethod
    def of(cls, rows: Rows, data: EvalData) -> Shape:
        """Choose the columns that the user names, else those of the usual names.

        Raises:
            DataError: No such columns.
        """
        if data.label_column is not None:
            answer = find_column(rows, data.label_column, (), "completion", LABEL_FLAG)
            usual = (PROMPT, *TEXT)
            return cls(answer, find_column(rows, data.text_column, usual, "prompt", TEXT_FLAG))
        present = set(rows.columns)
        if data.text_column is None and not present.intersection(CHAT):
            prompt = PROMPT if PROMPT in present else None
            if prompt and (answers := [name for name in COMPLETION if name in present]):
                return cls(answers[0], prompt)
            if CHOSEN in present:
                return cls(CHOSEN, prompt, REJECTED if REJECTED in present else None)
        return cls(find_column(rows, data.text_column, (*CHAT, *TEXT), "text", TEXT_FLAG))

    @property
    def needed(self) -> list[str]:
        """Columns that must not be empty; a prompt may be."""
        tells = self.rejected if self.prompt is None else None
        return [self.answer, *([tells] if tells else [])]


def documents_of(rows: Rows, shape: Shape) -> list[PlainText | Chat]:
    """Read every row as text or conversation.

    Raises:
        DataError: A row holds neither text nor messages; the message names it.
    """
    if shape.prompt or shape.rejected:
        before = f"given {shape.prompt!r}" if shape.prompt else "after what is common to both"
        rows.notes.append(f"column {shape.answer!r} counts, {before}")
    return [
        _document(cells, shape, name, rows.source)
        for cells, name in zip(rows.cells, rows.names, strict=True)
    ]


def _document(cells: Mapping[str, Any], shape: Shape, name: str, source: str) -> PlainText | Chat:
    answer, prompt, rejected = (
        None if column is None or cells[column] is None else _read(cells, column, name, source)
        for column in (shape.answer, shape.prompt, shape.rejected)
    )
    if isinstance(answer, str) and not isinstance(prompt, list):
        common = _common(answer, rejected) if isinstance(rejected, str) else ""
        return (
            PlainText(answer.removeprefix(common), common)
            if prompt is None
            else PlainText(answer, prompt)
        )
    if isinstance(answer, list):
        chat = _with_system(_chat(answer, prompt, rejected), cells.get("system"))
        return replace(chat, tools=_tools(cells, name, source) or None, name=name)
    raise DataError(
        f"{name} has messages in column {shape.prompt!r} and text in {shape.answer!r}; expected "
        "both to be text or both to be messages",
        where=source,
    )


def _chat(answer: Messages, prompt: Any, rejected: Any) -> Chat:
    if isinstance(prompt, list):
        whole = answer[: len(prompt)] == prompt != answer  # the prompt is repeated
        return Chat(answer if whole else [*prompt, *answer], len(prompt))
    if isinstance(rejected, list):
        return Chat(answer, len(_common(answer, rejected)))
    # A prompt of text beside whole conversations is their first turn.
    return Chat(answer, 0 if prompt is None else len(answer) - 1)


def _common(one: Any, other: Any) -> Any:
    """Common prefix of two sequences, but never the whole of the first."""
    pairs = enumerate(zip(one[:-1], other, strict=False))
    end = next((place for place, (a, b) in pairs if a != b), min(len(one) - 1, len(other)))
    return one[:end]


def _read(cells: Mapping[str, Any], column: str, name: str, source: str) -> str | Messages:
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
    found = _parsed(text)
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


def _parsed(text: str) -> Any:
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


def _said(message: Mapping[str, Any]) -> str:
    """A message's text, and calls of tools as JSON."""
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = "".join(str(part.get("text") or "") for part in content)
    calls = [cell for key, cell in message.items() if cell and key not in OF_A_TURN]
    return content + "".join(json.dumps(cell, ensure_ascii=False, default=str) for cell in calls)


def _with_system(chat: Chat, said: Any) -> Chat:
    if not isinstance(said, str) or not said.strip() or chat.messages[0]["role"] == "system":
        return chat
    return Chat([{"role": "system", "content": said}, *chat.messages], chat.given + 1)


def _tools(cells: Mapping[str, Any], name: str, source: str) -> list[Any] | None:
    found = cells.get("tools")
    if is_empty(found):
        return None
    if isinstance(found, str):
        found = _parsed(found)
    if not isinstance(found, list):
        raise DataError(f"{name} has a column 'tools' that holds no list", where=source)
    return found
