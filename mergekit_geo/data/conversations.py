"""Conversations as token ids, and which of them the assistant said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from mergekit_geo.data.chat_template import Conversation, render
from mergekit_geo.data.documents import Chat
from mergekit_geo.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    Tokens = tuple[list[int], list[bool]]
    Span = tuple[int, int]


def conversations(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[Chat], *, only_assistant: bool
) -> list[Tokens]:
    """Token ids of conversations, exactly as the chat template writes them, and which count.

    Args:
        tokenizer: With the chat template.
        chats: The conversations.
        only_assistant: Count only what the assistant says after the turns that are given.

    Raises:
        DataError: No turn counts, or there is no chat template, or it fails, or it changes earlier
            turns when a turn is added.
    """
    told = counted_spans(tokenizer, chats, only_assistant=only_assistant)
    return [_tokens(tokenizer, text, spans) for text, spans in told]


def counted_spans(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[Chat], *, only_assistant: bool
) -> list[tuple[str, list[Span]]]:
    """Conversations as the chat template writes them, and the characters that count.

    Args:
        tokenizer: With the chat template.
        chats: The conversations.
        only_assistant: Count only what the assistant says after the turns that are given.

    Raises:
        DataError: As `conversations`.
    """
    if not chats:
        return []
    if only_assistant:
        _require_turns(chats)
    asked = [_counted_renderings(chat, only_assistant) for chat in chats]
    texts = iter(render(tokenizer, list(chain.from_iterable(asked))))
    return [
        _told(chat, [next(texts) for _ in own], only_assistant)
        for chat, own in zip(chats, asked, strict=True)
    ]


def _counted_renderings(chat: Chat, only_assistant: bool) -> list[Conversation]:
    """What a template has to write of a conversation; nothing where nothing counts."""
    turns = chat.answers if only_assistant else []
    nothing = chat.is_system_alone or (only_assistant and not turns)
    return [] if nothing else _renderings(chat, turns)


def _told(chat: Chat, texts: Sequence[str], only_assistant: bool) -> tuple[str, list[Span]]:
    if not texts:
        return "", []
    whole, *rest = texts
    spans = _spans(chat, chat.answers, whole, iter(rest)) if only_assistant else [(0, len(whole))]
    return whole, spans


def whole_texts(tokenizer: PreTrainedTokenizerBase, chats: Sequence[Chat]) -> list[str]:
    """Conversations as the chat template writes them.

    Raises:
        DataError: There is no chat template, or it fails.
    """
    asked = [_renderings(chat, [])[0] for chat in chats]
    return render(tokenizer, asked) if asked else []


def _require_turns(chats: Sequence[Chat]) -> None:
    if not any(chat.answers for chat in chats):
        roles = sorted({role for chat in chats for role in chat.roles})
        raise DataError(
            "no conversation has a turn of 'assistant' that counts; the roles are "
            f"{', '.join(roles)}",
            where=chats[0].name,
            remedy="--loss-on all counts every token",
        )


def _renderings(chat: Chat, turns: Sequence[int]) -> list[Conversation]:
    """The whole conversation, and its prefixes that end before and after each of some turns."""
    options = {} if chat.tools is None else {"tools": chat.tools}
    found = [Conversation(chat.messages, chat.name, options)]
    for turn in turns:
        if turn > 0:
            asking = {**options, "add_generation_prompt": True}
            found.append(Conversation(chat.messages[:turn], chat.name, asking))
        found.append(Conversation(chat.messages[: turn + 1], chat.name, options))
    return found


def _spans(chat: Chat, turns: Sequence[int], whole: str, rest: Iterator[str]) -> list[Span]:
    """Start and end of each of some turns in the whole text."""
    found = []
    for turn in turns:
        before = next(rest) if turn > 0 else None
        after = next(rest)
        if not whole.startswith(after) or not after.startswith(before or ""):
            raise DataError(
                "the chat template rewrites earlier turns, so the assistant's tokens cannot be "
                "told apart",
                where=chat.name,
                remedy="--loss-on all counts every token",
            )
        start = _said_at(chat.messages[turn], after) if before is None else len(before)
        found.append((start, len(after)))
    return found


def _said_at(message: Mapping[str, Any], text: str) -> int:
    """Where a first turn's content begins: no template writes what stands before it alone."""
    said = message.get("content")
    place = text.find(said.strip()) if isinstance(said, str) else -1
    return max(place, 0)


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str, spans: Sequence[Span]) -> Tokens:
    """Ids of a text, and which of them have a character of some spans."""
    if not tokenizer.is_fast:
        return _pieces(tokenizer, text, spans)
    options = {"add_special_tokens": False, "verbose": False, "return_offsets_mapping": True}
    encoded = tokenizer(text, **options)
    ids: list[int] = encoded["input_ids"]
    counted, last = [], 0
    for start, end in encoded["offset_mapping"]:
        begin = min(start, last)  # spaces before a word may be told to be of no token
        counted.append(any(begin < b and (end > a or begin == end == a) for a, b in spans))
        last = end
    return ids, counted


def _pieces(tokenizer: PreTrainedTokenizerBase, text: str, spans: Sequence[Span]) -> Tokens:
    """Locate spans by tokenizing prefixes of the text: slow tokenizers give no offsets."""

    def length(end: int) -> int:
        return len(_ids(tokenizer, text[:end]))

    ids = _ids(tokenizer, text)
    counted = [False] * len(ids)
    for start, end in spans:
        first, last = (min(length(place), len(ids)) for place in (start, end))
        counted[first:last] = [True] * (last - first)
    return ids, counted


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids
