"""Conversations with pictures: loss of what the assistant says, through the model's processor.

The processor writes as many tokens for a picture as the model wants, so what counts is found by
processing the beginnings of a conversation, too. Models take the pixels of several conversations in
ways of their own; here each runs alone, and no loss depends on what is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, functional
from transformers import PreTrainedTokenizerBase
from transformers.models.auto import modeling_auto

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.config.data import EvalData
from mergekit_geo.data.conversations import counted_spans
from mergekit_geo.data.documents import Chat, documents_of
from mergekit_geo.data.images import picture_of, stated_file
from mergekit_geo.data.pictured import image_column, pictured, with_pictures
from mergekit_geo.data.rows import Rows
from mergekit_geo.data.shape import Shape
from mergekit_geo.errors import DataError
from mergekit_geo.modules.load import quiet_transformers
from mergekit_geo.tasks.kind import TaskInputs, TaskKind, with_defaults
from mergekit_geo.tasks.processors import beside, named, processor_of, taken_by
from mergekit_geo.tasks.shown import bracketed, decoded
from mergekit_geo.tasks.task import BatchLosses, Example, Task
from mergekit_geo.tasks.token_losses import IGNORED, token_losses

PLACES = ("image", "video", "vision", "audio", "boi", "eoi")
"""Words in the names of settings that tell tokens in the place of a picture."""


WRITTEN = ("boi_token", "image_token")
"""Names of the tokens that chat templates write for a picture."""


class ImageTextToText:
    """Loss of the assistant's tokens given pictures and text before them.

    Args:
        processor: Of the models.
        config: Says which tokens stand for pictures, and how many tokens fit.
        data: Names of the columns, and which tokens count.
    """

    name, unit, metric = "image-text-to-text", "token", "next-token accuracy"

    def __init__(self, processor: Any, config: Config, data: EvalData) -> None:
        self.processor, self.data = processor, data
        self.tokenizer: PreTrainedTokenizerBase = processor.tokenizer
        self.places = _place_ids(config) | _written_ids(processor)
        text = config.get("text_config") or {}
        most = text.get("max_position_embeddings") or config.get("max_position_embeddings")
        self.most_tokens: int | None = data.seq_len or most

    def columns(self, rows: Rows) -> Sequence[str]:
        """Columns that must not be empty: of messages, or of text."""
        return Shape.of(rows, self.data).needed

    def examples(self, rows: Rows) -> list[Example]:
        """One a conversation; one that is too long is left out, as none of its pictures can be cut.

        Raises:
            DataError: A row lacks a picture or holds no conversation, the chat template fails, or
                no token counts.
        """
        found, longest = [], 0
        only = self.data.loss_on != "all"
        told = counted_spans(self.tokenizer, self._chats(rows), only_assistant=only)
        for row, (text, spans) in enumerate(told):
            if not spans:
                continue
            with named(rows, row):
                example = self._example(rows, row, text, spans)
            longest = max(longest, example.size)
            found += [example] if example.weight else []
        fitting = [e for e in found if self.most_tokens is None or e.size <= self.most_tokens]
        if left_out := len(found) - len(fitting):
            rows.notes.append(f"{left_out} conversations are longer than {self.most_tokens} tokens")
        if not fitting:
            raise DataError(
                f"no conversation has a token that counts and fits: the longest has {longest} "
                "tokens",
                where=rows.source,
                remedy=f"--seq-len {longest}" if left_out else "--loss-on all counts every token",
            )
        return fitting

    def texts(self, rows: Rows) -> list[list[str]]:
        """Conversations as the template writes them, without pictures."""
        told = counted_spans(self.tokenizer, self._chats(rows), only_assistant=False)
        return [[text] for text, _ in told]

    def shape(self, rows: Rows) -> str:
        """What the columns hold, in words."""
        return Shape.of(rows, self.data).described

    def shown(self, example: Example) -> str:
        """The conversation as the template writes it, then what counts of it in brackets."""
        counted = [label for label in example.fields["labels"] if label != IGNORED]
        return f"{example.fields['text']}\n{bracketed(decoded(self.tokenizer, counted))}"

    def batch_size(self, examples: Sequence[Example]) -> int:
        """Each runs alone."""
        return 1

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """What the processor makes of each, and labels; names begin with its number."""
        found: dict[str, Tensor] = {}
        for number, example in enumerate(examples):
            rows = example.fields["rows"]
            with named(rows, example.document):
                pictures = self._pictures(rows, example.document)
                made = self._processed(example.fields["text"], pictures)
            made["labels"] = torch.tensor([example.fields["labels"]])
            found |= {f"{number} {name}": tensor for name, tensor in made.items()}
        return found

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """Mean negative log-likelihood of the tokens that count, in nats."""
        found = [_losses(model, one) for one in _each(batch)]
        scores = [one.score for one in found if one.score is not None]
        return BatchLosses(torch.cat([one.loss for one in found]), torch.cat(scores))

    def _chats(self, rows: Rows) -> list[Chat]:
        column = image_column(rows, self.data.image_column)
        lifted = [pictured(rows, row, column) for row in range(len(rows.cells))]
        marked = Rows([one.cells for one in lifted], rows.names, rows.source, rows.notes)
        documents = documents_of(marked, Shape.of(marked, self.data), has_template=True)
        return [
            with_pictures(document, len(one.pictures), name)
            for document, one, name in zip(documents, lifted, rows.names, strict=True)
        ]

    def _pictures(self, rows: Rows, row: int) -> list[Any]:
        column = image_column(rows, self.data.image_column)
        return [picture_of(cell, beside(rows)) for cell in pictured(rows, row, column).pictures]

    def _example(
        self, rows: Rows, row: int, text: str, spans: Sequence[tuple[int, int]]
    ) -> Example:
        column = image_column(rows, self.data.image_column)
        stated = [stated_file(cell, beside(rows)) for cell in pictured(rows, row, column).pictures]
        pictures = self._pictures(rows, row)
        written, ids = self._written(text, len(pictures)), self._ids(text, pictures)
        counted = [False] * len(ids)
        for start, end in spans:
            begins = (text[:place] for place in (start, end))
            first, last = (
                len(ids)
                if begin == text
                else self._common(begin, pictures[: begin.count(written)], ids)
                for begin in begins
            )
            counted[first:last] = [True] * (last - first)
        labels = [
            token if counts and token not in self.places else IGNORED
            for token, counts in zip(ids, counted, strict=True)
        ]
        weight = sum(label != IGNORED for label in labels[1:])
        fields = {"rows": rows, "text": text, "labels": labels, "pictures": repr(stated)}
        return Example(row, len(ids), weight, fields)

    def _common(self, begin: str, pictures: Sequence[Any], ids: Sequence[int]) -> int:
        """How many tokens of a whole text are those of its beginning."""
        own = self._ids(begin, pictures) if begin else []
        same = (place for place, (a, b) in enumerate(zip(own, ids, strict=False)) if a != b)
        return next(same, min(len(own), len(ids)))

    def _written(self, text: str, count: int) -> str:
        """What the template writes for a picture: a token that stands in a text so many times."""
        holders = (self.processor, self.tokenizer)
        known = [getattr(one, name, None) for name in WRITTEN for one in holders]
        tokens = list(dict.fromkeys(str(token) for token in known if token))
        found = next((token for token in tokens if text.count(token) == count), None)
        if found is None:
            raise DataError(
                f"the chat template writes no {' or '.join(tokens) or 'token'} for each of {count} "
                "images",
                remedy="give the model another chat template",
            )
        return found

    def _ids(self, text: str, pictures: Sequence[Any]) -> list[int]:
        found: list[int] = self._processed(text, pictures)["input_ids"][0].tolist()
        return found

    def _processed(self, text: str, pictures: Sequence[Any]) -> dict[str, Tensor]:
        images = {"images": list(pictures)} if pictures else {}
        with quiet_transformers():
            made = self.processor(
                text=[text], **images, return_tensors="pt", add_special_tokens=False
            )
        return {name: value for name, value in made.items() if isinstance(value, Tensor)}


def _each(batch: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The tensors of each example."""
    numbers = sorted({int(name.split(" ", 1)[0]) for name in batch})
    for number in numbers:
        begin = f"{number} "
        yield {n.removeprefix(begin): t for n, t in batch.items() if n.startswith(begin)}


def _losses(model: Module, tensors: dict[str, Tensor]) -> BatchLosses:
    unlabelled = {name: tensor for name, tensor in tensors.items() if name != "labels"}
    following = functional.pad(tensors["labels"][:, 1:], (0, 1), value=IGNORED)
    return token_losses(model, {**taken_by(model, unlabelled), "use_cache": False}, following)


def _place_ids(config: Config) -> set[int]:
    """Tokens that stand for pictures, by the model's configuration."""
    ends = ("_token_id", "_token_index")
    return {
        value
        for key, value in config.items()
        if key.endswith(ends) and any(word in key for word in PLACES) and isinstance(value, int)
    }


def _written_ids(processor: Any) -> set[int]:
    """Tokens that a processor writes in the place of a picture, such as those around it."""
    tokens = [
        str(token)
        for name, token in vars(processor).items()
        if name.endswith("_token") and token and any(word in name for word in PLACES)
    ]
    known = processor.tokenizer.get_vocab()
    return {known[token] for token in tokens if token in known}


def reads_pictures(config: Config) -> bool:
    """Whether the architecture is a decoder of text that reads pictures."""
    own = (config.get("architectures") or [""])[0]
    listed = own in modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values()
    return bool(own) and listed and not with_defaults(config).get("is_encoder_decoder")


def _make(parts: TaskInputs) -> Task:
    processor = processor_of(parts, "text alone is measured by --task causal-lm")
    return ImageTextToText(processor, parts.config, parts.data)


KIND = TaskKind(
    "image-text-to-text",
    "",
    "AutoModelForImageTextToText",
    _make,
    has_perplexity=True,
    also=reads_pictures,
)
