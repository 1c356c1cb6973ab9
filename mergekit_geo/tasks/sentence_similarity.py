"""Encoders without a head: texts that belong together are near each other.

Pairs have a contrastive loss (MultipleNegativesRankingLoss of sentence-transformers, InfoNCE):
cross entropy of a text's own partner among the partners of a group of pairs, whose composition does
not depend on batches. Scored pairs have the squared error of the cosine (CosineSimilarityLoss), and
Spearman's rank correlation of cosines and scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Module, functional
from transformers.models.auto import modeling_auto

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.config.data import EvalData
from mergekit_geo.data.rows import Rows, texts_of
from mergekit_geo.data.text_pairs import PairColumns, scores_of
from mergekit_geo.errors import DataError
from mergekit_geo.tasks.causal_lm import MOST_AT_ONCE, pad
from mergekit_geo.tasks.contrastive import candidates_of, numbered, ranking_losses
from mergekit_geo.tasks.embedding import Embedding
from mergekit_geo.tasks.groups import group_size, groups_of
from mergekit_geo.tasks.kind import TaskInputs, TaskKind
from mergekit_geo.tasks.shown import bracketed
from mergekit_geo.tasks.task import BatchLosses, Example, Task
from mergekit_geo.tasks.token_inputs import encode, inputs_of, padding_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SCALE = 20.0
"""What cosines are multiplied by: a temperature of 0.05."""

RETRIEVAL, RANKS = "retrieval accuracy", "cosine Spearman"
FILLERS = {"attention_mask": 0, "token_type_ids": 0}


class SentenceSimilarity:
    """Loss of pairs of texts.

    Args:
        tokenizer: Of the models.
        seq_len: Most tokens of a text; what is longer is cut.
        data: Names of the columns, and the seed of the groups.
        embedding: How texts become vectors.
        padding: Id of the token that fills a batch.
    """

    name, unit = "sentence-similarity", "example"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        seq_len: int,
        data: EvalData,
        embedding: Embedding,
        padding: int,
    ) -> None:
        self.tokenizer, self.seq_len, self.data = tokenizer, seq_len, data
        self.embedding, self.padding = embedding, padding
        self.metric, self._group = RETRIEVAL, 1

    def columns(self, rows: Rows) -> Sequence[str]:
        """The columns of texts and, if there is one, of scores."""
        return PairColumns.of(rows, self.data).needed

    def examples(self, rows: Rows) -> list[Example]:
        """One a pair; those of a group are of one document, the group's first row.

        Raises:
            DataError: A column is missing, a score is no number, or there is one pair alone.
        """
        found = PairColumns.of(rows, self.data)
        rows.notes.extend([self.embedding.note] if self.embedding.note else [])
        texts = [
            [self.embedding.written(text) for text in texts_of(rows, column)]
            for column in found.texts
        ]
        encoded = self._encoded(rows, texts)
        if found.score is not None:
            self.metric, self._group = RANKS, 1
            return self._scored(texts, encoded, scores_of(rows, found.score))
        self.metric = RETRIEVAL
        return self._grouped(rows, texts, encoded)

    def shown(self, example: Example) -> str:
        """A text, and its partner, or their score, in brackets."""
        first, (partner, *_) = example.fields["first"], example.fields["others"]
        if "score" not in example.fields:
            return f"{first}\n{bracketed(partner)}"
        return f"{first}\n{partner}\n{bracketed(example.fields['score'])}"

    def batch_size(self, examples: Sequence[Example]) -> int:
        """Whole groups, whose texts are encoded once."""
        return max(1, MOST_AT_ONCE // self._group) * self._group

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Texts, each once: inputs (t, length); and which of them (t) an example compares.

        `first` (b,) and `others` (b, candidates) are numbers of texts, -1 where there is none;
        `score` (b,) is given for scored pairs.
        """
        texts = {text: ids for example in examples for text, ids in example.fields["texts"].items()}
        place = {text: number for number, text in enumerate(texts)}
        fillers = {"input_ids": self.padding, **FILLERS}
        inputs = list(texts.values())
        found = pad(inputs, {name: filler for name, filler in fillers.items() if name in inputs[0]})
        found["first"] = torch.tensor([place[example.fields["first"]] for example in examples])
        found["others"] = numbered(
            [[place[text] for text in example.fields["others"]] for example in examples]
        )
        if "score" in examples[0].fields:
            found["score"] = torch.tensor([example.fields["score"] for example in examples])
        return found

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """Cross entropy in nats of each text's partner, or squared error of each cosine."""
        vectors = functional.normalize(self.embedding.embed(model, batch), dim=-1)
        others = batch["others"]
        cosines = (vectors[batch["first"]][:, None] * vectors[others.clamp(min=0)]).sum(dim=-1)
        if "score" not in batch:
            return ranking_losses(SCALE * cosines, others >= 0)
        said, rated = cosines[:, 0], batch["score"].float()
        return BatchLosses((said - rated).square(), rated=rated, rating=said)

    def _encoded(
        self, rows: Rows, columns: Sequence[Sequence[str]]
    ) -> dict[str, dict[str, list[int]]]:
        """The model's inputs of every text, each once."""
        every = list(dict.fromkeys(text for column in columns for text in column))
        encoded = encode(self.tokenizer, rows, self.seq_len, every)
        return {text: inputs_of(encoded, row) for row, text in enumerate(every)}

    def _scored(
        self,
        columns: Sequence[Sequence[str]],
        encoded: dict[str, dict[str, list[int]]],
        scores: Sequence[float],
    ) -> list[Example]:
        found = []
        for row, (first, second, score) in enumerate(zip(*columns, scores, strict=True)):
            texts = {text: encoded[text] for text in (first, second)}
            fields = {"texts": texts, "first": first, "others": [second], "score": score}
            found.append(Example(row, _longest(texts), 1, fields))
        return found

    def _grouped(
        self,
        rows: Rows,
        columns: Sequence[Sequence[str]],
        encoded: dict[str, dict[str, list[int]]],
    ) -> list[Example]:
        pairs = [(first, others) for first, *others in zip(*columns, strict=True)]
        if len({others[0] for _, others in pairs}) < 2:  # noqa: PLR2004
            raise DataError(
                "there is one pair of texts alone, and nothing to tell its partner from",
                where=rows.source,
                remedy="give more pairs: 80 or more",
            )
        self._group = group_size(len(pairs))
        found = []
        for group in groups_of([first for first, _ in pairs], self.data.seed, self._group):
            found += _examples(group, [pairs[i] for i in group], encoded)
        rows.notes.append(
            f"a text's partner is told from those of about {self._group - 1} others, in groups "
            "that the seed makes; a document is a group"
        )
        return found


def _examples(
    group: Sequence[int],
    pairs: Sequence[tuple[str, Sequence[str]]],
    encoded: dict[str, dict[str, list[int]]],
) -> list[Example]:
    every = {text for first, others in pairs for text in (first, *others)}
    size = _longest({text: encoded[text] for text in every})
    found = []
    for row, (first, _), others in zip(group, pairs, candidates_of(pairs), strict=True):
        texts = {text: encoded[text] for text in (first, *others)}
        fields = {"texts": texts, "first": first, "others": others}
        found.append(Example(group[0], size, 1, fields, row))
    return found


def _longest(texts: dict[str, dict[str, list[int]]]) -> int:
    return max(len(inputs["input_ids"]) for inputs in texts.values())


def is_text_encoder(config: Config) -> bool:
    """Whether the architecture gives states of a text's tokens and has no head.

    Example:
        >>> is_text_encoder({"architectures": ["MistralModel"], "model_type": "mistral"})
        True
        >>> is_text_encoder({"architectures": ["ViTModel"], "model_type": "vit"})
        False
    """
    own, kind = (config.get("architectures") or [""])[0], config.get("model_type")
    auto = str((config.get("auto_map") or {}).get("AutoModel") or "")
    if own and auto.rpartition(".")[2] == own:
        return True
    reads = {
        *modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        *modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    }
    return kind in reads and modeling_auto.MODEL_MAPPING_NAMES.get(kind) == own


def _make(parts: TaskInputs) -> Task:
    tokenizer, embedding = parts.tokenizer(), Embedding.of(parts.folder)
    most = parts.seq_len(tokenizer)
    if parts.data.seq_len is None and embedding.most_tokens:
        most = min(embedding.most_tokens, tokenizer.model_max_length)
    padding = padding_id(parts.config, tokenizer) or 0
    return SentenceSimilarity(tokenizer, most, parts.data, embedding, padding)


KIND = TaskKind(
    "sentence-similarity",
    "MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES",
    "",
    _make,
    also=is_text_encoder,
    by_group=True,
)
