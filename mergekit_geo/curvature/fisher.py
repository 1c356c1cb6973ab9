"""The diagonal of the Fisher information matrix: mean squares of the gradients of single examples.

Squares are taken example by example (never of a batch's mean gradient), with labels drawn from the
model, or with those of the data (the empirical Fisher).
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module, Parameter

from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.objective import Objective, TaskObjective
from mergekit_geo.tasks.drawn_labels import labels_drawn
from mergekit_geo.tasks.table import TASKS

Done = Callable[[int], None]


@dataclass(frozen=True)
class SeededExample:
    """An example, and what its labels are drawn with.

    Attributes:
        row: Its index.
        seed: That of its content and of nothing beside it.
    """

    row: int
    seed: int


@dataclass(frozen=True, eq=False)
class SquaredGradients:
    """Sums of squared gradients of log p(y | x), example by example.

    Attributes:
        model: In evaluation mode, in float32 or float64.
        objective: The examples.
        empirical: Whether labels are those of the data; if not, they are drawn from the model.
        examples: Those that are gone through, in an order of chance; None of a function of the
            caller's, whose batches are.
        sums: Of each trainable parameter, by its name.

    Example:
        >>> from mergekit_geo.evaluation.objective import FunctionObjective
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> batch = torch.tensor([[1.0], [3.0]])
        >>> loss = FunctionObjective(lambda model, x: model(x)[:, 0], [batch])
        >>> squares = SquaredGradients.of(model, loss, empirical=True)
        >>> squares.mean(squares.add(0, squares.count))["weight"]
        tensor([[5.]])
    """

    model: Module
    objective: Objective
    empirical: bool
    examples: Sequence[SeededExample] | None
    sums: dict[str, Tensor]

    @classmethod
    def of(
        cls,
        model: Module,
        objective: Objective,
        *,
        empirical: bool = False,
        most: int | None = None,
        seed: int = 0,
    ) -> SquaredGradients:
        """Sums of no examples yet.

        Args:
            model: In evaluation mode, in float32 or float64.
            objective: The examples that there are.
            empirical: Take the labels of the data.
            most: Examples that are gone through; all if None.
            seed: Of their order, and of the labels.

        Raises:
            DataError: Examples of this task have no losses of their own; or labels are to be drawn,
                and the model gives them no distribution.
        """
        _require_labels(objective, empirical=empirical)
        sums = {name: torch.zeros_like(p) for name, p in _trainable(model).items()}
        return cls(model, objective, empirical, seeded_examples(objective, most, seed), sums)

    @property
    def count(self) -> int:
        """Number of examples, or of batches of a function of the caller's."""
        return len(self.objective.batches() if self.examples is None else self.examples)

    def add(self, start: int, stop: int, done: Done = lambda count: None) -> int:
        """Add the squares of some examples; returns how many.

        Args:
            start: Place of the first in their order.
            stop: The place after the last.
            done: Called after each with the number that is in the sums, from place 0 on.

        Raises:
            DataError: A loss is not a number.
        """
        parameters, added = _trainable(self.model), 0
        for place, losses in enumerate(self._losses(start, stop), start + 1):
            for i, loss in enumerate(losses):
                self._square(loss, list(parameters.values()), keep=i < len(losses) - 1)
            added += len(losses)
            done(place)
        return added

    def mean(self, examples: int) -> dict[str, Tensor]:
        """The diagonal, by the names of the parameters."""
        return {name: total / examples for name, total in self.sums.items()}

    def _losses(self, start: int, stop: int) -> Iterator[Tensor]:
        """-log p(y | x) of one example after the other, (1,); (b,) of a function's batches."""
        if self.examples is None:
            for batch in self.objective.batches()[start:stop]:
                loss, weight = batch(self.model)
                yield loss * weight
            return
        for example in self.examples[start:stop]:
            yield self._loss_of(example)

    def _loss_of(self, example: SeededExample) -> Tensor:
        assert isinstance(self.objective, TaskObjective)
        rows = np.array([example.row])
        if self.empirical:
            loss, weight = self.objective.batch(rows, self.model)
            return loss * weight
        with labels_drawn(example.seed) as drawing:
            loss, weight = self.objective.batch(rows, self.model)
        if not drawing.used:
            _refuse_unlabelled(self.objective.task.name)
        return loss * weight

    def _square(self, loss: Tensor, parameters: Sequence[Parameter], *, keep: bool) -> None:
        if not torch.isfinite(loss.detach()):
            raise DataError("the loss of an example is not a number, and its gradient is none")
        found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=keep)
        with torch.no_grad():
            for total, gradient in zip(self.sums.values(), found, strict=True):
                if gradient is not None:
                    total.addcmul_(gradient, gradient)


def seeded_examples(
    objective: Objective, most: int | None, seed: int
) -> list[SeededExample] | None:
    """Draw at most so many examples in random order; the seed of each comes from its document.

    Args:
        objective: The examples that there are; None comes of a function of the caller's.
        most: How many; all if None.
        seed: Another seed is another order, and other labels.
    """
    if not isinstance(objective, TaskObjective):
        return None
    kept, seen, seeds = objective.kept, Counter[int](), []
    for one in kept:
        seeds.append(_seed(f"{seed} {objective.documents[one.document]} {seen[one.document]}"))
        seen[one.document] += 1
    count = len(kept) if most is None else min(most, len(kept))
    order = random.Random(seed).sample(range(len(kept)), count)
    return [SeededExample(row, seeds[row]) for row in order]


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")


def _trainable(model: Module) -> dict[str, Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _require_labels(objective: Objective, *, empirical: bool) -> None:
    if not isinstance(objective, TaskObjective):
        if not empirical:
            _refuse_unlabelled("a loss function of the caller's")
        return
    kind = TASKS.get(objective.task.name)
    if kind is not None and kind.by_group:
        raise DataError(
            f"{objective.task.name} compares examples with one another, and a Fisher is made of "
            "gradients of single examples",
            remedy="merge by another method, such as linear",
        )


def _refuse_unlabelled(what: str) -> None:
    raise DataError(
        f"{what} has no labels that can be drawn from the model, as a true Fisher needs them",
        remedy="--empirical takes those of the data",
    )
