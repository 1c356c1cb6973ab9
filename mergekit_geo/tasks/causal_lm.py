"""Next-token prediction: windows of text, or conversations whose assistant's tokens count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module, functional

from mergekit_geo.config.data import EvalData
from mergekit_geo.data.conversations import conversations, whole_texts
from mergekit_geo.data.documents import Chat, Document, PlainText, documents_of
from mergekit_geo.data.rows import Rows
from mergekit_geo.data.shape import Shape
from mergekit_geo.errors import DataError
from mergekit_geo.tasks.kind import TaskInputs, TaskKind, context_length
from mergekit_geo.tasks.shown import decoded, marked
from mergekit_geo.tasks.task import BatchLosses, Example, Task
from mergekit_geo.tasks.token_losses import IGNORED, token_losses

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    Tokens = tuple[list[int], list[bool]]

LOGIT_ELEMENTS = 1 << 25
"""Most logits of a batch by default: 128 MiB in float32."""

MOST_AT_ONCE = 32


class CausalLM:
    """Loss of every token given those before it.

    Args:
        tokenizer: Of the models.
        seq_len: Tokens in a window, begin-of-sequence included.
        vocabulary: Size of the logits.
        data: Names of the columns, and which tokens of a conversation count.
        note: What the report is to say of the task.
        every_token: Whether the first token of a window of text is predicted, too: the token that
            begins or, where there is none, ends a text stands before it.
    """

    name, unit, metric = "causal-lm", "token", "next-token accuracy"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        seq_len: int,
        vocabulary: int,
        data: EvalData,
        note: str = "",
        *,
        every_token: bool = False,
    ) -> None:
        self.tokenizer, self.seq_len, self.vocabulary = tokenizer, seq_len, vocabulary
        self.data, self.note, self.every_token = data, note, every_token

    def columns(self, rows: Rows) -> Sequence[str]:
        """Columns that must not be empty; a prompt may be."""
        return Shape.of(rows, self.data).needed

    def examples(self, rows: Rows) -> list[Example]:
        """Windows of every row that do not overlap; the last of each may be shorter.

        Raises:
            DataError: A row holds neither text nor messages, the chat template fails, no row has
                two tokens, or no token of it counts.
        """
        rows.notes.extend([self.note] if self.note else [])
        found = self.windows(self._documents(rows))
        if not found:
            raise DataError(
                "the text is too short: no document has two tokens, or none of them counts",
                where=rows.source,
            )
        return found

    def windows(self, documents: Sequence[Document]) -> list[Example]:
        """Windows of documents; of those of which nothing counts there are none.

        Raises:
            DataError: The chat template fails, or no turn of a conversation counts.
        """
        found = []
        for number, (ids, counted) in enumerate(self._tokens(documents)):
            prefix = self._prefix(ids, documents[number])
            found += _windows(number, ids, counted, prefix, self.seq_len)
        return found

    def texts(self, rows: Rows) -> list[list[str]]:
        """The texts of every row: prompt and text, or a conversation as the template writes it."""
        documents = self._documents(rows)
        chats = [document for document in documents if isinstance(document, Chat)]
        told = iter(whole_texts(self.tokenizer, chats))
        return [
            [next(told)] if isinstance(one, Chat) else [one.prompt, one.text] for one in documents
        ]

    def window_text(self, example: Example) -> str:
        """The text of one window, without special tokens."""
        return decoded(self.tokenizer, example.fields["input_ids"], special=False)

    def byte_counts(self, rows: Rows, examples: Sequence[Example]) -> list[int]:
        """UTF-8 bytes of the text that counts, a number a row; of messages, of what they say."""
        only = self.only_answers
        found = self._documents(rows)
        return [len(document.counted(only_assistant=only).encode()) for document in found]

    def shape(self, rows: Rows) -> str:
        """What the columns hold, in words."""
        return Shape.of(rows, self.data).described

    def shown(self, example: Example) -> str:
        """A window with brackets around the tokens that are predicted and count."""
        labels = [IGNORED, *example.fields["labels"][1:]]
        return marked(self.tokenizer, example.fields["input_ids"], labels)

    def batch_size(self, examples: Sequence[Example]) -> int:
        """Number of windows whose logits stay small."""
        longest = max(example.size for example in examples)
        return max(1, min(MOST_AT_ONCE, LOGIT_ELEMENTS // (longest * self.vocabulary)))

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Ids, attention mask and labels (-100 where a token does not count): (b, length) each."""
        return pad(
            [example.fields for example in examples],
            {"input_ids": 0, "attention_mask": 0, "labels": IGNORED},
        )

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """Mean negative log-likelihood of each window's tokens, in nats."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        following = functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
        return token_losses(model, {**inputs, "use_cache": False}, following)

    @property
    def only_answers(self) -> bool:
        """Whether prompts do not count."""
        return self.data.loss_on != "all"

    def _documents(self, rows: Rows) -> list[Document]:
        return self.documents(rows, Shape.of(rows, self.data))

    def documents(self, rows: Rows, shape: Shape) -> list[Document]:
        """Read every row as text or conversation.

        Raises:
            DataError: A row holds neither.
        """
        return documents_of(rows, shape, has_template=bool(self.tokenizer.chat_template))

    def _prefix(self, ids: Sequence[int], document: Document) -> list[int]:
        """The begin-of-sequence token of every window, where there is one.

        Text has it if the tokenizer adds it, or every token is to be predicted; a conversation, if
        its template writes it.
        """
        begin = self.tokenizer.bos_token_id
        written = begin is not None and [*ids[:1]] == [begin]
        if isinstance(document, Chat):
            return [begin] if written else []
        added = self.tokenizer("")["input_ids"]
        if begin is not None and (self.every_token or added[:1] == [begin]):
            return [begin]
        end = self.tokenizer.eos_token_id if self.every_token else None
        return [] if end is None else [end]

    def _tokens(self, documents: Sequence[Document]) -> Iterator[Tokens]:
        """Ids of each document, and which of them count."""
        chats = [document for document in documents if isinstance(document, Chat)]
        told = iter(conversations(self.tokenizer, chats, only_assistant=self.only_answers))
        for document in documents:
            yield next(told) if isinstance(document, Chat) else self._text(document)

    def _text(self, document: PlainText) -> Tokens:
        prompt, text = (self._ids(part) for part in (document.prompt, document.text))
        return [*prompt, *text], [not self.only_answers] * len(prompt) + [True] * len(text)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids


def _windows(
    document: int, ids: list[int], counted: list[bool], prefix: list[int], length: int
) -> list[Example]:
    found = []
    if prefix and ids[: len(prefix)] == prefix:  # it is written already
        ids, counted = ids[len(prefix) :], counted[len(prefix) :]
    step = length - len(prefix)
    for start in range(0, len(ids), step):
        own = [*prefix, *ids[start : start + step]]
        counts = [*([False] * len(prefix)), *counted[start : start + step]]
        weight = sum(counts[1:])
        if weight > 0:
            labels = [token if count else IGNORED for token, count in zip(own, counts, strict=True)]
            fields = {"input_ids": own, "attention_mask": [1] * len(own), "labels": labels}
            found.append(Example(document, len(own), weight, fields))
    return found


def pad(
    fields: Sequence[Mapping[str, Sequence[int]]], fillers: Mapping[str, int]
) -> dict[str, Tensor]:
    """Lists of unequal length as one (b, longest) tensor a name, filled on the right.

    Example:
        >>> pad([{"x": [1, 2]}, {"x": [3]}], {"x": 0})["x"].tolist()
        [[1, 2], [3, 0]]
    """
    return {name: _padded([row[name] for row in fields], fill) for name, fill in fillers.items()}


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    padded = np.full((len(rows), max(map(len, rows))), filler)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(padded)


def _make(parts: TaskInputs) -> Task:
    tokenizer = parts.tokenizer()
    length = context_length(parts.config, parts.data.seq_len)
    vocabulary = parts.vocabulary(tokenizer)
    every = parts.per_byte
    return CausalLM(tokenizer, length, vocabulary, parts.data, parts.note, every_token=every)


KIND = TaskKind(
    "causal-lm",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "AutoModelForCausalLM",
    _make,
    reads_plain_text=True,
    has_perplexity=True,
    counts_bytes=True,
)
