"""What a row of a language model's data is: text, a prompt and its completion, a conversation.

Known shapes of rows, the first that the columns allow:
- `chosen` and `rejected`, with or without `prompt`: the chosen answer counts.
- `messages` (or `conversations`): turns of `role` and `content`, or ShareGPT's `from` and `value`;
  the columns `tools` and `system` go with them.
- `prompt` and `completion` (or `response`), both text or both messages: the completion counts.
- `instruction`, `input` (or `context`; it may be empty) and `output` (or `response`), as Alpaca's
  data has them: the output counts. With a chat template they are a turn of the user and one of the
  assistant, else text under Alpaca's headings.
- `text` and other usual names: all of it counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from mergekit_geo.data.messages import OF_A_TURN, Messages, parsed, text_or_messages
from mergekit_geo.data.rows import Rows, is_empty
from mergekit_geo.data.shape import Shape
from mergekit_geo.errors import DataError

HEADINGS = ("### Instruction:\n", "### Input:\n", "### Response:\n")
"""What stands before instruction, input and output where there is no chat template."""


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
    def roles(self) -> list[str]:
        """Who says each turn."""
        return [str(message["role"]) for message in self.messages]

    @property
    def answers(self) -> list[int]:
        """Indices of the assistant's messages after those that are given."""
        return [
            turn
            for turn, role in enumerate(self.roles)
            if role == "assistant" and turn >= self.given
        ]

    @property
    def is_system_alone(self) -> bool:
        """Whether nobody speaks but the system."""
        return set(self.roles) <= {"system"}

    @property
    def alternates(self) -> bool:
        """Whether neither user nor assistant speaks twice in a row.

        Example:
            >>> Chat([{"role": "user", "content": "2"}, {"role": "user", "content": "+ 2"}]
            ... ).alternates
            False
        """
        return not any(one == two in ("user", "assistant") for one, two in pairwise(self.roles))

    def counted(self, *, only_assistant: bool) -> str:
        """What the messages that count say, without what a chat template writes around it.

        Example:
            >>> Chat([{"role": "user", "content": "2 + 2"}, {"role": "assistant", "content": "4"}]
            ... ).counted(only_assistant=True)
            '4'
        """
        turns = self.answers if only_assistant else range(len(self.messages))
        return "".join(_said(self.messages[turn]) for turn in turns)


Document = PlainText | Chat


def documents_of(rows: Rows, shape: Shape, *, has_template: bool) -> list[Document]:
    """Read every row as text or conversation.

    Args:
        rows: The data.
        shape: Which columns hold what.
        has_template: Whether instructions are turns of a conversation, rather than text.

    Raises:
        DataError: A row holds neither text nor messages; the message names it.
    """
    if shape.prompt or shape.rejected:
        _note(rows, f"column {shape.answer!r} counts, {_what_is_given(shape)}")
    reader = _Reader(shape, rows.source, has_template)
    found = [reader.read(*row) for row in zip(rows.cells, rows.names, strict=True)]
    _note_odd(rows, [document for document in found if isinstance(document, Chat)])
    return found


def _what_is_given(shape: Shape) -> str:
    given = " and ".join(repr(column) for column in (shape.prompt, shape.input) if column)
    return f"given {given}" if given else "after what is common to both"


def _note_odd(rows: Rows, chats: Sequence[Chat]) -> None:
    odd = sum(not chat.alternates for chat in chats)
    if odd:
        _note(rows, f"in {odd} of {len(chats)} conversations roles do not alternate: kept as is")
    if alone := sum(chat.is_system_alone for chat in chats):
        verb = "holds" if alone == 1 else "hold"
        _note(rows, f"{alone} of {len(chats)} conversations {verb} a system message alone")


def _note(rows: Rows, text: str) -> None:
    if text not in rows.notes:
        rows.notes.append(text)


@dataclass(frozen=True)
class _Reader:
    """Reads rows of one shape."""

    shape: Shape
    source: str
    has_template: bool

    def read(self, cells: Mapping[str, Any], name: str) -> Document:
        """A row as what it is.

        Raises:
            DataError: It holds neither text nor messages.
        """
        shape = self.shape
        answer, prompt, rejected, about = (
            None
            if column is None or cells[column] is None
            else text_or_messages(cells, column, name, self.source)
            for column in (shape.answer, shape.prompt, shape.rejected, shape.input)
        )
        if shape.is_instruction:
            answer, prompt = self._instructed(answer, prompt, about)
        if isinstance(answer, str) and not isinstance(prompt, list):
            return _text(answer, prompt, rejected)
        if isinstance(answer, list):
            chat = _with_system(_chat(answer, prompt, rejected), cells.get("system"))
            return replace(chat, tools=_tools(cells, name, self.source), name=name)
        raise DataError(
            f"{name} has messages in column {shape.prompt!r} and text in {shape.answer!r}; "
            "expected both to be text or both to be messages",
            where=self.source,
        )

    def _instructed(self, answer: Any, instruction: Any, about: Any) -> tuple[Any, Any]:
        """Answer and prompt as turns of a conversation, or as text under headings."""
        if not all(isinstance(part, str | None) for part in (answer, instruction, about)):
            return answer, instruction
        parts = zip(HEADINGS, (instruction, about), strict=False)
        asked = {heading: part for heading, part in parts if part and part.strip()}
        if not asked:
            return answer, None
        if self.has_template:
            user = {"role": "user", "content": "\n\n".join(asked.values())}
            return [{"role": "assistant", "content": answer}], [user]
        told = [f"{heading}{part}\n\n" for heading, part in asked.items()]
        return answer, "".join([*told, HEADINGS[-1]])


def _text(answer: str, prompt: str | None, rejected: Any) -> PlainText:
    if prompt is not None:
        return PlainText(answer, prompt)
    common = common_beginning(answer, rejected) if isinstance(rejected, str) else ""
    return PlainText(answer.removeprefix(common), common)


def _chat(answer: Messages, prompt: Any, rejected: Any) -> Chat:
    if isinstance(prompt, list):
        whole = answer[: len(prompt)] == prompt != answer  # the prompt is repeated
        return Chat(answer if whole else [*prompt, *answer], len(prompt))
    if isinstance(rejected, list):
        return Chat(answer, len(common_beginning(answer, rejected)))
    # A prompt of text beside whole conversations is their first turn.
    return Chat(answer, 0 if prompt is None else len(answer) - 1)


def common_beginning(one: Any, other: Any) -> Any:
    """Common prefix of two sequences, but never the whole of the first.

    Example:
        >>> common_beginning("two and two", "two and one")
        'two and '
    """
    pairs = enumerate(zip(one[:-1], other, strict=False))
    end = next((place for place, (a, b) in pairs if a != b), min(len(one) - 1, len(other)))
    return one[:end]


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
        found = parsed(found)
    if not isinstance(found, list):
        raise DataError(f"{name} has a column 'tools' that holds no list", where=source)
    return found or None
