"""Conversations as a model's chat template writes them, within bounds.

A template comes with a model. Jinja's sandbox keeps it from the system, but not from looping
without end or filling memory, so it runs in a process of its own, which a timer ends and whose
memory is limited.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, Any

from mergekit_geo.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECONDS = 10
"""Most for one conversation."""

MEMORY = 1 << 30
"""Bytes above what this process has."""

LONGEST = 10_000_000
"""Characters of a conversation that is written out."""

OTHER_TEMPLATE = "give the model another chat template, or data with a text column"


@dataclass(frozen=True)
class Conversation:
    """What a template is given.

    Attributes:
        messages: Each with a role and content.
        name: What the row is called, for messages.
        options: Further variables of the template, such as `tools`.
    """

    messages: Sequence[Mapping[str, Any]]
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def render(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]) -> list[str]:
    """Each conversation as text.

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
        late = os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGALRM
        reason = f"takes more than {SECONDS} s" if late else "needs too much memory"
        found = {"problem": f"{reason} for one conversation"}
    if "problem" in found:
        raise DataError(
            f"the chat template {found['problem']}",
            where=conversation.name,
            remedy=OTHER_TEMPLATE,
        )
    text: str = found["text"]
    return text


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
    """What the child does; it never returns."""
    try:
        reader.close()
        for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends this process
        _limit_memory()
        for conversation in conversations:
            signal.alarm(SECONDS)
            writer.send_bytes(json.dumps(_rendered(tokenizer, conversation)).encode())
    finally:
        os._exit(0)


def _limit_memory() -> None:
    import psutil

    most = psutil.Process().memory_info().vms + MEMORY
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _rendered(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> dict[str, str]:
    messages = [dict(message) for message in conversation.messages]
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, **conversation.options))
    except MemoryError:
        return {"problem": "needs too much memory for one conversation"}
    except Exception as error:  # a template raises anything
        return {"problem": f"refuses a conversation: {type(error).__name__}: {error}"[:500]}
    if len(text) > LONGEST:
        return {"problem": f"writes more than {LONGEST:,} characters for one conversation"}
    return {"text": text}
