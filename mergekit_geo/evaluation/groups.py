"""Models side by side, whatever they are: which of them share a module, and what they all read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.compatibility import preflight
from mergekit_geo.checkpoints.sources import side_files_from
from mergekit_geo.config.data import source_of
from mergekit_geo.errors import DataError, GeoError
from mergekit_geo.evaluation.plan import LossPlan, plan_losses
from mergekit_geo.evaluation.sample import Sample, prepare_beside
from mergekit_geo.evaluation.study import MeasuringOptions, Study

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint


@dataclass(frozen=True)
class ModelGroup:
    """Models that one module can hold one after the other, and that read the same inputs.

    Attributes:
        places: Their positions among all models.
        studies: What is measured, on each set.
    """

    places: tuple[int, ...]
    studies: tuple[Study, ...]

    @property
    def models(self) -> tuple[Checkpoint, ...]:
        """The models, as they were opened."""
        return self.studies[0].models

    def anchors(self) -> tuple[Checkpoint, ...]:
        """The models under the first one's tensor names, their data here."""
        return tuple(anchor.fetch() for anchor in self.studies[0].checked.anchors)


def groups_of(models: Sequence[Checkpoint], asked: MeasuringOptions) -> list[ModelGroup]:
    """Models grouped by what they share, and what they are measured on.

    Where the inputs of two groups differ, whole documents are measured, per byte of text if the
    task can.

    Args:
        models: As they were opened.
        asked: The command's options.

    Raises:
        DataError: Nothing to measure some model on, or models whose tasks differ.
        IncompatibleError: A model is unsound.
    """
    first, *others = places_of(models)
    groups = [_group(first, models, asked)]
    for places in others:
        with _about(models[places[0]]):  # what concerns the data alone was told of the first
            groups.append(_group(places, models, asked))
    return _reading_alike(groups)


def places_of(models: Sequence[Checkpoint]) -> list[list[int]]:
    """Positions of the models that can share a module, group by group."""
    found: list[list[int]] = []
    for place, model in enumerate(models):
        own = next((group for group in found if fits(models[group[0]], model)), None)
        if own is None:
            found.append([place])
        else:
            own.append(place)
    return found


def fits(first: Checkpoint, other: Checkpoint) -> bool:
    """Whether a module of the first model holds the other one as it is, and reads the same."""
    found = preflight([first, other])
    alike = not found.problems and not found.warnings and not found.untied
    return alike and side_files_from([first, other]) is first


def _group(
    places: Sequence[int], models: Sequence[Checkpoint], asked: MeasuringOptions
) -> ModelGroup:
    own = [models[i] for i in places]
    checked = preflight(own)
    checked.require()
    study = Study.of(own, checked, asked)
    for one in study.sets:
        if one.plan.objective is None:
            on = f" on {one.name}" if study.further else ""
            raise DataError(
                f"loss cannot be measured{on}: {one.plan.reason}",
                where=own[0].name,
                remedy="give held-out data with --data",
            )
    return ModelGroup(tuple(places), study.sets)


@contextmanager
def _about(model: Checkpoint) -> Iterator[None]:
    """Errors inside tell which model they are about."""
    try:
        yield
    except GeoError as error:
        if model.name not in f"{error.message} {error.where}":
            error.message = f"{model.name}: {error.message}"
        raise


def _reading_alike(groups: Sequence[ModelGroup]) -> list[ModelGroup]:
    """Give all groups the same documents, set by set."""
    sets = [_alike(studies) for studies in zip(*(group.studies for group in groups), strict=True)]
    every = zip(*sets, strict=True)
    return [replace(group, studies=own) for group, own in zip(groups, every, strict=True)]


def _alike(studies: Sequence[Study]) -> list[Study]:
    """One set as every group reads it, in whole documents where they read it differently."""
    if read_the_same(studies):
        return list(studies)
    _require_one_task(studies)
    first, *others = studies
    plan = plan_losses(first.models, first.data, first.compute, apart=True, per_byte=True)
    assert plan.sample is not None, "there was one before"
    return [replace(first, plan=plan), *_beside(plan.sample, others)]


def read_the_same(studies: Sequence[Study]) -> bool:
    """Whether groups are given the same inputs, number by number."""
    samples = [study.sample for study in studies]
    return len({sample and sample.objective.digest for sample in samples}) == 1


def _require_one_task(studies: Sequence[Study]) -> None:
    first, *others = studies
    for other in others:
        mine, theirs = (one.sample.objective.task.name for one in (first, other) if one.sample)
        if mine != theirs:
            raise DataError(
                f"the loss of {first.models[0].name} is that of {mine}, and the loss of "
                f"{other.models[0].name} that of {theirs}: they cannot be compared",
                remedy="evaluate them apart, or name a task that both can do: --task",
            )


def _beside(sample: Sample, studies: Sequence[Study]) -> Iterator[Study]:
    for study in studies:
        settings, donor = source_of(study.data).as_settings, side_files_from(study.models)
        assert settings is not None, "a sample without settings"
        assert donor.folder is not None, "a sample without a tokenizer"
        with _about(donor):
            own = prepare_beside(
                sample, settings, donor.folder, study.models[0].config, study.compute
            )
        plan = LossPlan(own.objective, own, tokenizer=donor.folder)
        yield replace(study, plan=plan)
