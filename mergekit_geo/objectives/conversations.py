"""Conversations as token ids, and which of them the assistant said."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from mergekit_geo.errors import DataError
from mergekit_geo.objectives.chat_template import Conversation, render
from mergekit_geo.objectives.documents import Chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    Tokens = tuple[list[int], list[bool]]


def conversations(
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Chat],
    *,
    only_assistant: bool,
) -> list[Tokens]:
    """Token ids of conversations, exactly as the chat template writes them, and which count.

    Args:
        tokenizer: With the chat template.
        chats: The conversations.
        only_assistant: Count only what the assistant says after the turns that are given.

    Raises:
        DataError: No chat template, one that fails, or one that changes earlier turns when a turn
            is added.
    """
    if not chats:
        return []
    asked = [_renderings(chat, _turns(chat) if only_assistant else []) for chat in chats]
    texts = iter(render(tokenizer, list(chain.from_iterable(asked))))
    found = []
    for parts in asked:
        ids, *beginnings = (_ids(tokenizer, next(texts)) for _ in parts)
        counted = [not only_assistant] * len(ids)
        for before, after in zip(beginnings[::2], beginnings[1::2], strict=True):
            _require_beginnings(ids, before, after, parts[0].name)
            counted[len(before) : len(after)] = [True] * (len(after) - len(before))
        found.append((ids, counted))
    return found


def _turns(chat: Chat) -> list[int]:
    """Those of the assistant that count."""
    roles = [message["role"] for message in chat.messages]
    return [turn for turn, role in enumerate(roles) if role == "assistant" and turn >= chat.given]


def _renderings(chat: Chat, turns: Sequence[int]) -> list[Conversation]:
    """The whole, and what stands before and after each of some turns."""
    options = {} if chat.tools is None else {"tools": chat.tools}
    found = [Conversation(chat.messages, chat.name, options)]
    for turn in turns:
        asking = {**options, "add_generation_prompt": True}
        found.append(Conversation(chat.messages[:turn], chat.name, asking))
        found.append(Conversation(chat.messages[: turn + 1], chat.name, options))
    return found


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _require_beginnings(ids: list[int], before: list[int], after: list[int], name: str) -> None:
    if ids[: len(after)] != after or after[: len(before)] != before:
        raise DataError(
            "the chat template rewrites earlier turns, so the assistant's tokens cannot be told "
            "apart",
            where=name,
            remedy="--loss-on all counts every token",
        )
