"""How sure a macro-F1 is, and a difference of two from the same examples.

It is no mean over documents, so the jackknife leaves out one document after another.

Legend: m labels, d documents, p pairs of a document and a class in it, c classes.
"""

from __future__ import annotations

import math

import numpy as np

from mergekit_geo.evaluation.statistics import FEWEST_DOCUMENTS, around
from mergekit_geo.records.losses import Estimate
from mergekit_geo.tasks.losses import Answers, Floats, Indices, Losses


def paired_f1(first: Losses, second: Losses) -> Estimate | None:
    """Macro-F1 of the first minus that of the second; None where the task has no classes.

    Args:
        first: Losses of one model.
        second: Losses of the other, same examples in the same order.

    Example:
        >>> target, ids = np.arange(12) % 3, np.arange(12)
        >>> right = Answers(ids, target, target)
        >>> wrong = Answers(ids, target, np.where(ids < 2, 2, target))
        >>> def losses(answers):
        ...     return Losses(np.zeros(12), np.ones(12), ids, None, answers)
        >>> found = paired_f1(losses(right), losses(wrong))
        >>> round(found.value, 3), round(found.low, 3)
        (0.162, -0.098)
    """
    if first.answers is None or second.answers is None:
        return None
    _, document = np.unique(first.document, return_inverse=True)
    value = first.answers.macro_f1 - second.answers.macro_f1
    weight_d = np.bincount(document[first.answers.example]).astype(np.float64)
    weight_d = weight_d[weight_d > 0]
    count = len(weight_d)
    if count < FEWEST_DOCUMENTS:
        return Estimate(value=value, low=None, high=None)
    shift_d = _without_each(first.answers, document) - _without_each(second.answers, document)
    shift_d = shift_d[np.isfinite(shift_d)] - value
    return around(value, math.sqrt((1 - 1 / count) * (shift_d @ shift_d)), weight_d)


def _without_each(answers: Answers, document: Indices) -> Floats:
    """(d,) macro-F1 without each document; NaN where that leaves nothing, or had no labels."""
    classes = int(max(answers.target.max(), answers.predicted.max())) + 1
    owner = document[answers.example] * classes
    hit = answers.target == answers.predicted
    parts = [owner + answers.target, owner + answers.predicted, (owner + answers.target)[hit]]
    pairs = np.unique(np.concatenate(parts[:2]))
    own_p = [_counted(pairs, part) for part in parts]
    true_c, said_c, hits_c = (
        np.bincount(part % classes, minlength=classes).astype(np.float64) for part in parts
    )
    at_p, of_p = pairs % classes, pairs // classes
    true_p, said_p, hits_p = (
        total[at_p] - own for total, own in zip((true_c, said_c, hits_c), own_p, strict=True)
    )
    gained_p = _f1(true_p, said_p, hits_p) - _f1(true_c, said_c, hits_c)[at_p]
    gone_p = (true_p == 0) & (true_c[at_p] > 0)
    count = int(document.max()) + 1
    sums = _f1(true_c, said_c, hits_c).sum() + np.bincount(of_p, gained_p, minlength=count)
    left = (true_c > 0).sum() - np.bincount(of_p[gone_p], minlength=count)
    labelled = np.bincount(of_p, minlength=count) > 0
    return np.where(labelled & (left > 0), sums / np.maximum(left, 1), np.nan)


def _counted(pairs: Indices, labels: Indices) -> Floats:
    """(p,) number of labels of each pair of true and predicted class."""
    return np.bincount(np.searchsorted(pairs, labels), minlength=len(pairs)).astype(np.float64)


def _f1(true: Floats, said: Floats, hits: Floats) -> Floats:
    """F1 of each class; 0 for one without examples."""
    return np.where(true > 0, 2 * hits / np.maximum(true + said, 1), 0.0)
