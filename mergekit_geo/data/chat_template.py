"""Conversations as a model's chat template writes them, within bounds.

A template comes with a model. Jinja's sandbox keeps it from the system, but not from looping
without end or filling memory, so it runs in a process of its own, which a timer ends and whose
memory is limited.

Content is text or a list of parts, and many a template takes one of the two: it would write a list
as Python prints it, or pass over the text without a word. It is given what it takes.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, Any

import psutil

from mergekit_geo.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    Message = Mapping[str, Any]
    Form = Callable[[Message], Message]

SECONDS = 10
"""Most seconds for one conversation."""

MEMORY = 1 << 30
"""Memory of the child in bytes, beyond what this process uses."""

SECONDS_OF_ALL, SECONDS_EACH = 30, 0.1
"""Limit of CPU time: seconds for all conversations together, plus seconds for each."""

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
    reader, writer = Pipe(duplex=False)
    with warnings.catch_warnings():  # other threads hold nothing that the child needs
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _render_all(tokenizer, conversations, reader, writer)
    writer.close()
    try:
        return [_received(reader, child, conversation) for conversation in conversations]
    finally:
        reader.close()
        _end(child)


def _received(reader: Connection, child: int, conversation: Conversation) -> str:
    try:
        found = json.loads(reader.recv_bytes())
    except EOFError:
        found = {"problem": _ended_by(os.WTERMSIG(os.waitpid(child, 0)[1]))}
    if "problem" in found:
        raise DataError(
            f"the chat template {found['problem']}",
            where=conversation.name,
            remedy=OTHER_TEMPLATE,
        )
    text: str = found["text"]
    return text


def _ended_by(number: int) -> str:
    """Why the child has ended."""
    if number == signal.SIGALRM:
        return f"takes more than {SECONDS} s for one conversation"
    if number == signal.SIGXCPU:
        return "takes too much time for all conversations together"
    if number == signal.SIGSEGV:
        return "is nested too deep"
    return "needs too much memory for one conversation"


def _end(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        return  # it was waited for already


def _render_all(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    reader: Connection,
    writer: Connection,
) -> None:
    """Render in the child process; never returns."""
    try:
        reader.close()
        for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGPIPE, signal.SIGXCPU):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends this process
        _limit_memory()
        _limit(resource.RLIMIT_CPU, SECONDS_OF_ALL + int(SECONDS_EACH * len(conversations)))
        signal.alarm(SECONDS)
        form = _form(tokenizer)
        for conversation in conversations:
            signal.alarm(SECONDS)
            writer.send_bytes(json.dumps(_rendered(tokenizer, conversation, form)).encode())
    finally:
        os._exit(0)


def _limit_memory() -> None:
    _limit(resource.RLIMIT_AS, psutil.Process().memory_info().vms + MEMORY)


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(kind, (most, hard))


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


def _rendered(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, form: Form
) -> dict[str, str]:
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
