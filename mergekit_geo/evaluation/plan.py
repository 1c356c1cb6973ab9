"""What loss is measured on, and what comes of it: losses, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.sources import original, side_files_from
from mergekit_geo.checkpoints.vocabulary import unlike_vocabularies
from mergekit_geo.config.data import source_of
from mergekit_geo.config.measures import Compute
from mergekit_geo.errors import DataError, GeoError, InternalError, is_of_this_package
from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.curvature import SharpnessEntry
from mergekit_geo.records.influence import InfluenceEntry
from mergekit_geo.records.layers import LayerMeasurements
from mergekit_geo.records.losses import DataEntry, DifferenceEntry, LossEntry
from mergekit_geo.records.sets import AcrossSets, OutputSetEntry
from mergekit_geo.records.sweep import SweepPoint
from mergekit_geo.records.tokenization import TokenizationEntry

if TYPE_CHECKING:
    from mergekit_geo.config.data import Data
    from mergekit_geo.evaluation.changed_examples import ChangedExamples
    from mergekit_geo.evaluation.model_losses import OutputLosses
    from mergekit_geo.evaluation.objective import Objective
    from mergekit_geo.evaluation.sample import Sample
    from mergekit_geo.records.examples import ExamplesEntry

TURNED_OFF = "evaluation was turned off"


@dataclass(frozen=True)
class LossPlan:
    """What is going to be measured.

    Attributes:
        objective: The examples; None if nothing is measured.
        sample: What they were made of, if from data.
        reason: Why nothing is measured.
        tokenizer: Folder of the sample's tokenizer.
        unlike: Positions of the models whose own vocabulary is not that one's.
    """

    objective: Objective | None = None
    sample: Sample | None = None
    reason: str = ""
    tokenizer: Path | None = None
    unlike: tuple[int, ...] = ()


@dataclass(frozen=True)
class LossReport:
    """What was measured.

    Attributes:
        losses: Per model, the output last.
        differences: Output minus each parent.
        data: On what.
        device: Where the models ran.
        dtype: Of the arithmetic.
        attention: The attention backend.
        warnings: What was left out.
        barriers: Between the parents.
        no_control: Why the ends of a fitted path were not trained further; empty if they were, or
            there is none.
        by_layer: Which layers did it, where a mean of two is worse than one of them.
        no_layers: Why that was not measured, where it could be.
        tokenization: How the parents' own tokenizers cut the documents, where they are others.
        influence: Of the layers of parents and output, where that has another architecture.
        reason: Why nothing was measured; empty if it was.
        fails: Whether the command fails for that reason.
        sets: The same on every set, by its name, where there are several; this is of the first.
        across: The output beside the best parent of each of several sets.
        changed: Which examples changed, on each set.
        output: Losses of the output, on each set.
        sweep: Losses at even places between two models, by the name of the set.
    """

    losses: list[LossEntry] = field(default_factory=list)
    differences: list[DifferenceEntry] = field(default_factory=list)
    data: DataEntry | None = None
    device: str | None = None
    dtype: str | None = None
    attention: str | None = None
    warnings: list[str] = field(default_factory=list)
    barriers: list[BarrierEntry] = field(default_factory=list)
    no_control: str = ""
    by_layer: LayerMeasurements | None = None
    no_layers: str = ""
    tokenization: list[TokenizationEntry] = field(default_factory=list)
    influence: list[InfluenceEntry] = field(default_factory=list)
    reason: str = ""
    fails: bool = False
    sets: dict[str, OutputSetEntry] = field(default_factory=dict)
    across: AcrossSets | None = None
    changed: tuple[ChangedExamples, ...] = ()
    output: tuple[OutputLosses, ...] = ()
    sweep: dict[str, list[SweepPoint]] = field(default_factory=dict)

    @property
    def examples(self) -> ExamplesEntry | None:
        """Examples that changed on the first set, or the only one."""
        if self.sets:
            return next(iter(self.sets.values())).examples
        return next((one.entry for one in self.changed), None)


@dataclass(frozen=True)
class SharpnessReport:
    """What was measured.

    Attributes:
        entries: Every model.
        warnings: What was left out.
        reason: Why nothing was measured; empty if it was.
        fails: Whether the command fails for that reason.
    """

    entries: list[SharpnessEntry] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    reason: str = ""
    fails: bool = False


@dataclass(frozen=True)
class Evidence:
    """What an output and its parents were measured by.

    Attributes:
        losses: Of parents and output, and the barriers between the parents.
        sharpness: Of parents and output.
    """

    losses: LossReport
    sharpness: SharpnessReport

    @classmethod
    def missing(cls, reason: str) -> Evidence:
        """No evidence, and why."""
        return cls(LossReport(reason=reason), SharpnessReport(reason=reason))


def plan_losses(
    checkpoints: Sequence[Checkpoint],
    data: Data,
    compute: Compute,
    *,
    apart: bool = False,
    per_byte: bool = False,
) -> LossPlan:
    """Plan, before anything is merged, whether loss can be measured and on what.

    Args:
        checkpoints: What is measured.
        data: As asked for.
        compute: How models are run.
        apart: Whether they are measured in an architecture of their own.
        per_byte: Whether they stand beside models of another tokenizer.

    Raises:
        DataError: The data that was asked for is missing or unusable.
    """
    source = source_of(data)
    settings = source.as_settings
    if settings is None:
        return LossPlan(source.as_objective, reason=TURNED_OFF if source.is_nothing else "")
    from mergekit_geo.evaluation.sample import Cut, held_out  # torch, where losses are asked for

    donor = side_files_from(checkpoints)
    try:
        unlike = _unlike(checkpoints, donor)
        config, folder = checkpoints[0].config, _folder_of(donor)
        per_byte = per_byte or bool(unlike)
        whole = apart or per_byte
        cut = Cut.of_texts(settings, config, per_byte=per_byte) if whole else Cut()
        sample = held_out(settings, folder, config, compute, cut)
    except GeoError as error:
        if donor.frame is not None and error.where == str(donor.folder):
            error.where = (donor.within or donor).name  # nobody knows the folder of a view
        if settings.is_named:
            raise
        return LossPlan(reason=str(error))
    except Exception as error:  # a tokenizer's own code raises anything
        found = failure(error, settings)
        if found.fails:
            raise DataError(found.reason, where=settings.origin) from error
        return LossPlan(reason=found.reason)
    return LossPlan(sample.objective, sample, tokenizer=folder, unlike=unlike)


def _unlike(checkpoints: Sequence[Checkpoint], donor: Checkpoint) -> tuple[int, ...]:
    """Positions of views of models whose own vocabulary is another than the donor's."""
    views = [i for i, model in enumerate(checkpoints) if model.reshaped]
    return tuple(i for i in views if unlike_vocabularies([donor, original(checkpoints[i])]))


def _folder_of(checkpoint: Checkpoint) -> Path:
    if checkpoint.folder is None:
        if checkpoint.is_stored:
            raise DataError(
                "a single file has no configuration and no tokenizer",
                where=checkpoint.name,
                remedy="name the folder of the model, or put config.json and tokenizer beside it",
            )
        raise DataError(
            "a model in memory comes without its tokenizer",
            where=checkpoint.name,
            remedy="save it with its tokenizer, or measure with a FunctionObjective",
        )
    return checkpoint.folder


@dataclass(frozen=True)
class Failure:
    """Why something was not measured.

    Attributes:
        reason: For the report.
        fails: Whether the command fails for it, although its output is whole.
    """

    reason: str
    fails: bool


def failure(error: Exception, data: Data) -> Failure:
    """Classify an error in measuring: a reason for the report, or a failure of the command.

    Args:
        error: Of ours, or of a model's or a tokenizer's own code, which raise anything.
        data: As asked for: nobody who named it takes no measurement for an answer.
    """
    if isinstance(error, AssertionError | NameError) and is_of_this_package(error):
        return Failure(str(InternalError.of(error)), True)
    told = str(error) if isinstance(error, GeoError) else f"{type(error).__name__}: {error}"
    return Failure(told, source_of(data).is_named)
