"""Conversations as a model's chat template writes them, within bounds.

A template comes with a model. Jinja's sandbox keeps it from the system, but not from looping
without end or filling memory, so it runs in a process of its own, which a timer ends and whose
memory is limited. Where no process can be forked, as on Windows, it runs in this one, and only the
length of what it writes is limited.

Content is text or a list of parts, and many a template takes one of the two: it would write a list
as Python prints it, or pass over the text without a word. It is given what it takes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mergekit_geo.errors import DataError
from mergekit_geo.portable import CAN_FORK

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    Message = Mapping[str, Any]
    Form = Callable[[Message], Message]

Answer = dict[str, str]
"""A conversation as `text`, or under `problem` why there is none."""

LONGEST, GROWTH = 100_000, 100
"""Most characters of a rendered conversation: a base, and a factor of its length as JSON."""

MARK = "two and two"
"""Content of the message that a template is tried with."""

OTHER_TEMPLATE = "give the model another chat template, or data with a text column"


@dataclass(frozen=True)
class Conversation:
    """A conversation as a template's input.

    Attributes:
        messages: Each with a role and content.
        name: What the row is called, for messages.
        options: Further variables of the template, such as `tools`.
    """

    messages: Sequence[Mapping[str, Any]]
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def render(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]) -> list[str]:
    """Render each conversation as text.

    Args:
        tokenizer: Has the chat template.
        conversations: Any number.

    Raises:
        DataError: There is no template, it fails, or it takes too much time, memory or text.
    """
    if not tokenizer.chat_template:
        raise DataError(
            "the data holds messages, and the tokenizer has no chat template",
            remedy="give data with a text column, or a model with a chat template",
        )
    answers = _answers(tokenizer, conversations)
    with closing(answers):
        return [_text(found, each) for each, found in zip(conversations, answers, strict=True)]


def _answers(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]
) -> Generator[Answer]:
    """What the template writes for each conversation, within bounds where they can be set."""
    if sys.platform != "win32" and CAN_FORK:
        from mergekit_geo.data.bounded import in_bounds  # Unix alone

        yield from in_bounds(lambda: _rendered(tokenizer, conversations), len(conversations))
    else:
        yield from _rendered(tokenizer, conversations)


def _text(found: Answer, conversation: Conversation) -> str:
    if "problem" in found:
        raise DataError(
            f"the chat template {found['problem']}", where=conversation.name, remedy=OTHER_TEMPLATE
        )
    return found["text"]


def _rendered(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]
) -> Iterator[Answer]:
    form = _form(tokenizer)
    return (_answer(tokenizer, conversation, form) for conversation in conversations)


def _form(tokenizer: PreTrainedTokenizerBase) -> Form:
    """Turns with content as the template takes it; as they are where it takes both, or neither."""
    turn = {"role": "user", "content": MARK}
    takes_text, takes_parts = (_writes(tokenizer, form(turn)) for form in (_as_text, _as_parts))
    if takes_text == takes_parts:
        return dict
    return _as_text if takes_text else _as_parts


def _writes(tokenizer: PreTrainedTokenizerBase, message: Message) -> bool:
    """Whether what a turn says is written out, and nothing of how it is kept."""
    try:
        text = str(tokenizer.apply_chat_template([dict(message)], tokenize=False))
    except Exception:  # a template raises anything
        return False
    return MARK in text and not re.search(r"""["']type["']""", text)


def _as_text(message: Message) -> Message:
    """Convert a message's content to text.

    Example:
        >>> _as_text({"role": "user", "content": [{"type": "text", "text": "yes"}]})
        {'role': 'user', 'content': 'yes'}
    """
    said = message.get("content")
    if not isinstance(said, list | tuple):
        return message
    return {**message, "content": "".join(str(part.get("text") or "") for part in said)}


def _as_parts(message: Message) -> Message:
    """Convert a message's content to a list of parts.

    Example:
        >>> _as_parts({"role": "user", "content": "yes"})
        {'role': 'user', 'content': [{'type': 'text', 'text': 'yes'}]}
    """
    said = message.get("content")
    if not isinstance(said, str):
        return message
    return {**message, "content": [{"type": "text", "text": said}]}


def _answer(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, form: Form) -> Answer:
    messages = [dict(form(message)) for message in conversation.messages]
    most = LONGEST + GROWTH * len(json.dumps([messages, conversation.options], default=str))
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, **conversation.options))
    except MemoryError:
        return {"problem": "needs too much memory for one conversation"}
    except RecursionError:
        return {"problem": "is nested too deep"}
    except Exception as error:  # a template raises anything
        return {"problem": f"refuses a conversation: {type(error).__name__}: {error}"[:500]}
    if len(text) > most:
        return {"problem": f"writes more than {most:,} characters for one conversation"}
    return {"text": text}
