"""Losses example by example, as rows of a file."""

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
"""Of a row: the set, the model, numbers of the example and of its document from 0, what the
document is called, SHA-256 of its content, then what was measured, the true class and the text."""


def hashed(text: str) -> str:
    """What stands in place of a text that is private.

    Example:
        >>> hashed("a")[:16]
        'sha256:ca978112c'
    """
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


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
        described = descriptions(sample, len(losses.loss), private=private)
        for number, about in enumerate(described):
            yield {
                "set": found.study.name, "model": model, "example": number,
                "document": int(losses.document[number]), **measured(losses, number), **about,
            }  # fmt: skip


def measured(losses: Losses, number: int) -> dict[str, float | None]:
    """Loss, weight and score of one example."""
    scored = losses.score is not None and losses.weight_of_score[number] > 0
    return {
        "loss": float(losses.loss[number]),
        "weight": float(losses.weight[number]),
        "score": float(losses.score[number]) if scored and losses.score is not None else None,
    }


def descriptions(
    sample: Sample | None, count: int, *, private: bool
) -> Iterator[dict[str, str | None]]:
    """Name and key of each example's document, its class and its text, where they are known."""
    if sample is None or sample.rows is None:
        yield from (dict.fromkeys(("name", "key", "label", "text")) for _ in range(count))
        return
    objective, rows = sample.objective, sample.rows
    texts = ExampleTexts(objective.task, rows, objective.kept)
    for example in objective.kept:
        text = texts.of(example)
        yield {
            "name": rows.names[example.document],
            "key": objective.documents[example.document],
            "label": texts.label_of(example),
            "text": hashed(text) if private and text else text or None,
        }
