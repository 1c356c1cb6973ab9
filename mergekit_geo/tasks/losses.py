"""Losses of one model, one number an example, and what can be asked of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """What a classifier said, label by label; an example may have several (m labels in all).

    Attributes:
        example: (m,) index of the example.
        target: (m,) true class.
        predicted: (m,) class of the largest logit.
    """

    example: Indices
    target: Indices
    predicted: Indices

    @cached_property
    def macro_f1(self) -> float:
        """Unweighted mean over the true classes of 2 hits / (true + predicted).

        Example:
            >>> labels = np.array([0, 0, 0, 1])
            >>> Answers(np.arange(4), labels, np.zeros(4, np.int64)).macro_f1
            0.42857142857142855
        """
        count = int(max(self.target.max(), self.predicted.max())) + 1
        true = np.bincount(self.target, minlength=count)
        said = np.bincount(self.predicted, minlength=count)
        hits = np.bincount(self.target[self.target == self.predicted], minlength=count)
        present = true > 0
        return float((2 * hits[present] / (true[present] + said[present])).mean())

    def take(self, examples: Indices) -> Answers:
        """Answers of some examples, renumbered in the order given."""
        place = np.full(int(self.example.max(initial=-1)) + 1, -1)
        known = examples[examples < len(place)]
        place[known] = np.arange(len(examples))[examples < len(place)]
        kept = place[self.example] >= 0
        return Answers(place[self.example[kept]], self.target[kept], self.predicted[kept])


@dataclass(frozen=True)
class Ratings:
    """Numbers of all examples, in their order, of which the metric is a rank correlation.

    Attributes:
        rated: (n,) in the data.
        rating: (n,) of the model.
    """

    rated: Floats
    rating: Floats

    @cached_property
    def spearman(self) -> float:
        """Spearman's rank correlation; NaN where all numbers of a side are equal.

        Example:
            >>> Ratings(np.array([0.0, 1, 2, 3]), np.array([1.0, 5, 4, 9])).spearman
            0.8
        """
        from scipy.stats import rankdata

        middle = (len(self.rated) + 1) / 2
        one, two = (rankdata(values) - middle for values in (self.rated, self.rating))
        size = math.sqrt(float(one @ one) * float(two @ two))
        return float(one @ two) / size if size else math.nan

    def take(self, examples: Indices) -> Ratings:
        """Numbers of some examples, in the order given."""
        return Ratings(self.rated[examples], self.rating[examples])


@dataclass(frozen=True)
class Losses:
    """Losses of one model, per example and in the examples' order (n examples).

    Attributes:
        loss: (n,) mean loss of an example's tokens or bytes (or of the example), in nats for
            classes and tokens, squared error for regression.
        weight: (n,) what an example counts: its predicted tokens, its bytes, or 1.
        document: (n,) index of the document each example is from.
        score: (n,) share of right answers of each example; None where the task has none.
        answers: The answers themselves, for classifiers.
        ratings: The numbers themselves, where the metric is a rank correlation.
        score_weight: (n,) what each score counts; None where as much as the loss.
        margin: (n,) how much likelier the chosen answer is than the rejected one, in nats per
            token; None where answers are not compared.
    """

    loss: Floats
    weight: Floats
    document: Indices
    score: Floats | None = None
    answers: Answers | None = None
    ratings: Ratings | None = None
    score_weight: Floats | None = None
    margin: Floats | None = None

    @property
    def weight_of_score(self) -> Floats:
        """(n,) what each score counts."""
        return self.weight if self.score_weight is None else self.score_weight

    @cached_property
    def mean(self) -> float:
        """Mean loss per token (or example)."""
        return float(self.weight @ self.loss / self.weight.sum())

    @cached_property
    def accuracy(self) -> float | None:
        """The task's metric: share of right answers, or Spearman's; None where there is none."""
        if self.ratings is not None:
            return self.ratings.spearman
        if self.score is None or not self.weight_of_score.any():
            return None
        return float(self.weight_of_score @ self.score / self.weight_of_score.sum())

    def by_document(self) -> Losses:
        """One row a document, in the order of their indices: means over its examples.

        Example:
            >>> found = Losses(np.array([1.0, 4.0, 3.0]), np.array([2.0, 1.0, 1.0]),
            ...                np.array([0, 0, 5])).by_document()
            >>> found.loss, found.weight, found.document
            (array([2., 3.]), array([3., 1.]), array([0, 5]))
        """
        documents, place = np.unique(self.document, return_inverse=True)
        weight = np.bincount(place, self.weight).astype(np.float64)

        def mean(values: Floats, own: Floats = self.weight) -> Floats:
            totals = np.bincount(place, own)
            return np.asarray(np.bincount(place, own * values) / np.where(totals > 0, totals, 1))

        answers, of_score = self.answers, self.score_weight
        return Losses(
            mean(self.loss),
            weight,
            documents,
            None if self.score is None else mean(self.score, self.weight_of_score),
            answers and Answers(place[answers.example], answers.target, answers.predicted),
            self.ratings and Ratings(mean(self.ratings.rated), mean(self.ratings.rating)),
            None if of_score is None else np.bincount(place, of_score).astype(np.float64),
            None if self.margin is None else mean(self.margin, self.weight_of_score),
        )

    def take(self, examples: Indices) -> Losses:
        """Losses of some examples, in the order given."""
        return Losses(
            self.loss[examples],
            self.weight[examples],
            self.document[examples],
            None if self.score is None else self.score[examples],
            None if self.answers is None else self.answers.take(examples),
            None if self.ratings is None else self.ratings.take(examples),
            None if self.score_weight is None else self.score_weight[examples],
            None if self.margin is None else self.margin[examples],
        )
