"""The examples of a model's data that its linear layers are looked at on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.config.measures import Compute
from mergekit_geo.evaluation.sample import Sample
from mergekit_geo.evaluation.training_sample import training_sample

if TYPE_CHECKING:
    from torch.nn import Module

    from mergekit_geo.config.sets import DataSource

Run = Callable[["Module"], Any]
"""Runs a model on some examples."""


@dataclass(frozen=True)
class Examples:
    """The examples that go through a model, in batches.

    Attributes:
        sample: What they were made of; None for a function of the caller's.
        batches: In a seeded order, so that the first of them are no longer than others.
        sizes: Tokens of each batch; 1 where only a model tells.
        first: Runs the model on as little as can be.
        documents: How many documents they are from; 0 where that is not known.
        count: How many there are; batches, where only a model tells.
        available: How many there were to choose from.
    """

    sample: Sample | None
    batches: tuple[Run, ...]
    sizes: tuple[int, ...]
    first: Run
    documents: int
    count: int
    available: int


def examples_of(model: Checkpoint, source: DataSource, most: int, compute: Compute) -> Examples:
    """A random sample of at most so many examples of a model's data; batches, of a function's.

    Raises:
        DataError: The data is missing or unusable.
    """
    sample = training_sample(source, model, compute)
    if sample is not None:
        return _of_sample(sample, model, source.seed, most)
    assert source.as_objective is not None, "no training data"
    every = source.as_objective.batches()
    batches = tuple(every[:most])
    count = len(batches)
    first = batches[0] if batches else _nothing
    return Examples(None, batches, (1,) * count, first, 0, count, len(every))


def _of_sample(sample: Sample, model: Checkpoint, seed: int, most: int) -> Examples:
    drawn = sample.objective.drawn(most, seed)
    if model.config.get("is_encoder_decoder"):  # no mask tells what of a shorter target is padding
        drawn = replace(drawn, batch_size=1)
    rows = drawn.batch_rows()
    random.Random(seed).shuffle(rows)
    runs = tuple(partial(drawn.losses_of, rows=some) for some in rows)
    return Examples(
        replace(sample, objective=drawn),
        runs,
        tuple(int(sum(drawn.kept[i].size for i in some)) for some in rows),
        runs[0] if drawn.whole else partial(drawn.losses_of, rows=rows[0][:1]),
        len({one.document for one in drawn.kept}),
        len(drawn.kept),
        len(sample.objective.kept),
    )


def _nothing(model: Module) -> None:
    """Run nothing."""
