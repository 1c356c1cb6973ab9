"""What a command measures, on what and how: made once, and handed to everything that measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from mergekit_geo.checkpoints.comparison import Preflight
from mergekit_geo.checkpoints.compatibility import preflight
from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.checkpoints.reshape.reshape import reshaped
from mergekit_geo.clock import Clock, clock_of
from mergekit_geo.config.data import sets_of, source_of
from mergekit_geo.config.model_data import for_all
from mergekit_geo.config.reshape import ReshapeConfig
from mergekit_geo.errors import DataError, GeoError
from mergekit_geo.evaluation.plan import LossPlan, plan_losses

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.config.data import Data, EvalData
    from mergekit_geo.config.measures import Compute
    from mergekit_geo.evaluation.sample import Sample
    from mergekit_geo.outputs.output import Output
    from mergekit_geo.progress import Progress


NO_STATISTICS = (
    "the model has BatchNorm, and the average of running statistics is that of no model: give "
    "--train-data to estimate them anew"
)


@contextmanager
def _of_set(name: str) -> Iterator[None]:
    """Errors in here name the set that they are of."""
    try:
        yield
    except GeoError as error:
        error.where = ": ".join(filter(None, [name, error.where]))
        raise


class MeasuringOptions(Protocol):
    """Options of a command that measures."""

    @property
    def data(self) -> Data:
        """What loss is measured on; None measures none."""

    @property
    def train_data(self) -> Data:
        """What is trained on, and what BatchNorm statistics are estimated on."""

    @property
    def compute(self) -> Compute:
        """How models are run."""

    @property
    def told(self) -> Progress:
        """Who is told what is going on."""


@dataclass(frozen=True)
class Study:
    """What a command measures, on what and how; of several sets of data, on the first of them.

    Attributes:
        models: As they were opened, in the order in which they were named.
        checked: What comparing them found.
        plan: What loss is measured on, or why it cannot be.
        data: The same as asked for.
        train_data: What is trained on, and what BatchNorm statistics are estimated on.
        compute: How models are run.
        progress: Told what is going on.
        clock: The time that the command may spend on measuring.
        name: Of the set of data.
        weight: What the set counts beside others.
        further: The same on further sets.
        private_examples: Whether hashes stand in place of texts in what is reported.
    """

    models: tuple[Checkpoint, ...]
    checked: Preflight
    plan: LossPlan
    data: Data
    train_data: Data
    compute: Compute
    progress: Progress
    clock: Clock
    name: str = "data"
    weight: float = 1.0
    further: tuple[Study, ...] = ()
    private_examples: bool = False

    @classmethod
    def open(cls, models: Sequence[Model], asked: MeasuringOptions, output: Output) -> Study:
        """Open models that are to be measured, and refuse what cannot be, before any work.

        Args:
            models: As they were named.
            asked: The command's options.
            output: Where the command writes, if it does.

        Raises:
            IncompatibleError: The models do not belong together.
            DataError: Nothing to measure on.
            OutputError: The output would replace a model.
            GeoError: A model cannot be opened.
        """
        wanted = getattr(asked, "reshape", ReshapeConfig())
        found = reshaped(open_checkpoints(models), wanted)
        checkpoints = found.checkpoints
        output.refuse_inputs(checkpoints)
        checked = preflight(checkpoints)
        checked.require()
        checked.notes[:0], checked.warnings[:0] = found.notes, found.warnings
        study = cls.of(checkpoints, checked, asked)
        study.require_measurable()
        return study

    @classmethod
    def of(
        cls,
        models: Sequence[Checkpoint],
        checked: Preflight,
        asked: MeasuringOptions,
        *,
        apart: bool = False,
    ) -> Study:
        """The study of models that are open and compared; loss need not be measurable.

        Args:
            models: The models.
            checked: What comparing them found.
            asked: The command's options.
            apart: Whether the models are measured in an architecture of their own.

        Raises:
            DataError: Data that was asked for is missing or unusable.
        """
        clock, sets = clock_of(asked.compute.budget), sets_of(asked.data)
        private = getattr(getattr(asked, "output", None), "private_examples", False)
        found = []
        for one in sets:
            with _of_set(one.name if len(sets) > 1 else ""):
                plan = plan_losses(models, one.data, asked.compute, apart=apart)
            found.append(
                cls(
                    tuple(models), checked, plan, one.data, asked.train_data, asked.compute,
                    asked.told, clock, one.name, one.weight, private_examples=private,
                )
            )  # fmt: skip
        study = replace(found[0], further=tuple(found[1:]))
        if study.further:
            study.require_measurable()
        for each in study.sets:
            each._tell_example()
        return study

    def _tell_example(self) -> None:
        """Say what was understood of the data, where that was asked for."""
        settings = source_of(self.data).as_settings
        if self.sample is not None and settings is not None and settings.show_example:
            from mergekit_geo.evaluation.example import told_example  # torch, which is there now

            for line in told_example(self.name, settings.origin, self.sample):
                self.progress.say(line)

    def of_models(self, models: Sequence[Checkpoint]) -> Study:
        """Copy whose models are others of the same architecture."""
        further = tuple(study.of_models(models) for study in self.further)
        return replace(self, models=tuple(models), further=further)

    @property
    def sets(self) -> tuple[Study, ...]:
        """One study a set of data; this one is that of the first."""
        return self, *self.further

    @cached_property
    def anchors(self) -> tuple[Checkpoint, ...]:
        """The models under the donor's tensor names, their data here; downloaded when first asked.

        Raises:
            IncompatibleError: Their data shows that they do not belong together.
            HubError: A download failed.
        """
        return self.checked.fetch()

    @property
    def sample(self) -> Sample | None:
        """What the objective was made of, if from data."""
        return self.plan.sample

    @property
    def seed(self) -> int:
        """Seed of whatever is drawn from the data: its halves, and samples of it."""
        return source_of(self.data).seed

    @property
    def statistics_data(self) -> EvalData | None:
        """What BatchNorm statistics are estimated on."""
        return for_all(self.train_data).as_settings

    def require_measurable(self) -> None:
        """Refuse to measure on nothing.

        Raises:
            DataError: With the reason, of the first set that has one.
        """
        for study in self.sets:
            if study.plan.objective is None:
                on = f" on {study.name}" if self.further else ""
                raise DataError(
                    f"loss cannot be measured{on}: {study.plan.reason}",
                    remedy="give held-out data with --data",
                )
