"""Losses of models by themselves on every set: one evaluation a model and set, kept for others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergekit_geo.evaluation.as_they_are import on_common_documents
from mergekit_geo.evaluation.group_evaluator import GroupEvaluator, Place
from mergekit_geo.evaluation.groups import ModelGroup, read_the_same
from mergekit_geo.tasks.losses import Losses
from mergekit_geo.tasks.per_byte import TOKEN

if TYPE_CHECKING:
    from mergekit_geo.evaluation.sample import Sample
    from mergekit_geo.evaluation.study import Study


@dataclass(frozen=True)
class SetLosses:
    """What was measured of all models on one set.

    Attributes:
        study: What was measured, as the first model reads it.
        samples: The examples that each model was measured on; None of a function of the caller's.
        losses: Of each model on its examples.
        paired: The same where they can be compared, example by example or by document; None where
            they cannot.
    """

    study: Study
    samples: Sequence[Sample | None]
    losses: Sequence[Losses]
    paired: Sequence[Losses] | None


@dataclass(frozen=True)
class AllLosses:
    """What was measured of all models.

    Attributes:
        sets: On each set.
        place: Device, dtype and attention that models were run with; None where all was known.
        warnings: What was left out.
    """

    sets: Sequence[SetLosses]
    place: Place | None
    warnings: Sequence[str]


def measure_groups(groups: Sequence[ModelGroup]) -> AllLosses:
    """Measure all models on every set; those of a group share a module.

    Args:
        groups: As `groups_of` gives them.

    Raises:
        DataError: A loss is not a number.
    """
    count = sum(len(group.places) for group in groups)
    found: dict[int, tuple[list[Losses], GroupEvaluator]] = {}
    first: GroupEvaluator | None = None
    for group in groups:
        own = GroupEvaluator(group, count)
        if first is None:
            first = own
            own.settle()
        else:
            own.follow(first)
        found |= {i: (losses, own) for i, losses in zip(group.places, own.losses(), strict=True)}
        own.leave()
    every = [found[i] for i in range(count)]
    sets = [_set_losses(groups, every, number) for number in range(len(groups[0].studies))]
    evaluators = list(dict.fromkeys(own for _, own in every))
    warnings = [text for own in evaluators for one in own.evaluators for text in one.warnings]
    place = next((own.place for own in evaluators if own.place), None)
    return AllLosses(sets, place, [*warnings, *_not_compared(sets)])


def _set_losses(
    groups: Sequence[ModelGroup], every: Sequence[tuple[list[Losses], GroupEvaluator]], number: int
) -> SetLosses:
    """One set of all models."""
    losses = [own[number] for own, _ in every]
    samples = [own.sample(number) for _, own in every]
    studies = [group.studies[number] for group in groups]
    first = studies[0]
    paired: Sequence[Losses] | None = losses
    if not read_the_same(studies):
        per_token = first.sample is not None and first.sample.objective.task.unit == TOKEN
        paired = None if per_token else on_common_documents(losses)
    return SetLosses(first, samples, losses, paired)


def _not_compared(sets: Sequence[SetLosses]) -> list[str]:
    return [
        f"losses on {one.study.name} are not compared: models read it differently, and "
        f"{one.study.sample.objective.task.name} has no loss that can be compared then"
        for one in sets
        if one.paired is None and one.study.sample is not None
    ]
