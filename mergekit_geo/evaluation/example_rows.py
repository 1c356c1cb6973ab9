"""Losses example by example, as rows of a file, and what examples are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mergekit_geo.tasks.texts import ExampleTexts

if TYPE_CHECKING:
    from mergekit_geo.evaluation.sample import Sample
    from mergekit_geo.evaluation.side_by_side import SetLosses
    from mergekit_geo.tasks.losses import Losses

COLUMNS: Mapping[str, type] = {
    "set": str, "model": str, "example": int, "document": int, "name": str, "key": str,
    "loss": float, "weight": float, "score": float, "label": str, "text": str,
}  # fmt: skip
"""Columns of a row: the set, the model, numbers of the example and of its document from 0, what the
document is called, SHA-256 of its content, then what was measured, the true class and the text."""

Description = dict[str, str | None]
NOTHING: Description = {"name": None, "key": None, "label": None, "text": None}


def hashed(text: str) -> str:
    """What stands in place of a text that is private.

    Example:
        >>> hashed("a")[:16]
        'sha256:ca978112c'
    """
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class Described:
    """Name and key of each example's document, its class and its text, where they are known.

    Args:
        sample: The examples; None of a function of the caller's.
        private: Whether hashes stand in place of texts.
    """

    def __init__(self, sample: Sample | None, *, private: bool) -> None:
        self.sample, self.private = sample, private
        self.texts: ExampleTexts | None = None
        if sample is not None and sample.rows is not None:
            self.texts = ExampleTexts(sample.objective.task, sample.rows)

    def of(self, document: int, number: int | None) -> Description:
        """What is known of an example, or of a document where the example has no number."""
        if self.sample is None or self.texts is None:
            return NOTHING
        objective, rows = self.sample.objective, self.texts.rows
        example = None if number is None else objective.kept[number]
        row = document if example is None else example.row
        text = self.texts.of_document(document) if example is None else self.texts.of(example)
        return {
            "name": rows.names[row],
            "key": objective.documents[row],
            "label": None if example is None else self.texts.label_of(example),
            "text": hashed(text) if self.private and text else text or None,
        }


def rows_of(
    found: SetLosses, models: Sequence[str], *, private: bool = False
) -> Iterator[dict[str, Any]]:
    """Losses on one set, model by model and example by example.

    Args:
        found: What was measured.
        models: Names of the models.
        private: Whether hashes stand in place of texts.
    """
    for model, sample, losses in zip(models, found.samples, found.losses, strict=True):
        described = Described(sample, private=private)
        for number, document in enumerate(losses.document.tolist()):
            yield {
                "set": found.study.name, "model": model, "example": number, "document": document,
                **measured(losses, number), **described.of(document, number),
            }  # fmt: skip


def measured(losses: Losses, number: int) -> dict[str, float | None]:
    """Loss, weight and score of one example."""
    scored = losses.score is not None and losses.weight_of_score[number] > 0
    return {
        "loss": float(losses.loss[number]),
        "weight": float(losses.weight[number]),
        "score": float(losses.score[number]) if scored and losses.score is not None else None,
    }
