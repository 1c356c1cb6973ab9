"""A fine-tuning as asked for, with all that is read before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.compatibility import Preflight
from mergekit_geo.checkpoints.content import model_key
from mergekit_geo.checkpoints.left_out import refuse_foreign_needs
from mergekit_geo.checkpoints.reference import open_checkpoint
from mergekit_geo.clock import clock_of
from mergekit_geo.config.data import source_of
from mergekit_geo.config.measures import SHARPNESS
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.evaluation.cache_key import machine_key
from mergekit_geo.evaluation.plan import plan_losses
from mergekit_geo.evaluation.sample import training_objective
from mergekit_geo.evaluation.study import Study
from mergekit_geo.processes import world

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.config.compute import Compute
    from mergekit_geo.config.data import Data
    from mergekit_geo.config.output import OutputConfig
    from mergekit_geo.config.training import SamArguments, TrainingConfig
    from mergekit_geo.evaluation.objective import Objective
    from mergekit_geo.evaluation.plan import LossPlan
    from mergekit_geo.progress import Progress

SHOWN = 40
"""Most characters of a value that is shown where two runs differ."""


@dataclass(frozen=True)
class TuningRequest:
    """Settings of a fine-tuning as the user gave them.

    Attributes:
        train_data: What is trained on.
        training: How.
        sam: How SAM steps.
        seed: Of the order of examples, dropout, adapters.
        output: How the checkpoint is written.
        data: What loss is measured on; None measures none.
        compute: How models are run.
        sharpness: `off`, `quick` or `full`.
    """

    train_data: Data
    training: TrainingConfig
    sam: SamArguments
    seed: int
    output: OutputConfig
    data: Data
    compute: Compute
    sharpness: str

    def __post_init__(self) -> None:
        if self.sharpness not in SHARPNESS:
            raise ArgumentError(
                f"sharpness {self.sharpness!r}: expected one of {', '.join(SHARPNESS)}"
            )
        if self.train_data is None:
            raise DataError("no training data to fine-tune on", remedy="--train-data FILE")

    def settings(self) -> dict[str, Any]:
        """All settings of the training as a JSON value."""
        train, data = self.train_data, self.data
        return {
            **asdict(self.training),
            **asdict(self.sam),
            "seed": self.seed,
            "train_data": source_of(train).settings(),
            "output": asdict(self.output),
            "data": source_of(data).settings(),
            "compute": asdict(self.compute),
            "sharpness": self.sharpness,
        }


@dataclass(frozen=True)
class Tuning:
    """What was asked for, and what it is done with.

    Attributes:
        asked: By the user.
        base: The model, its data here.
        plan: What loss is measured on.
        objective: What is trained on.
    """

    asked: TuningRequest
    base: Checkpoint
    plan: LossPlan
    objective: Objective

    def with_seed(self, seed: int) -> Tuning:
        """Copy with another seed."""
        return replace(self, asked=replace(self.asked, seed=seed))

    def fingerprint(self) -> dict[str, Any]:
        """A JSON value of all that the trained weights depend on."""
        asked, train = self.asked, self.asked.train_data
        machine = machine_key(asked.compute)
        return {
            **asdict(asked.training),
            **asdict(asked.sam),
            **{
                f"train-data {key}": value
                for key, value in (source_of(train).settings() or {}).items()
            },
            "training examples": _digest(self.objective),
            "seed": asked.seed,
            "processes": world()[1],
            "dtype": asked.output.dtype,
            "max-shard-size": asked.output.max_shard_size,
            "model": model_key(self.base),
            **{key: found for key, found in machine.items() if key not in ("dtype", "versions")},
            **{f"version of {name}": found for name, found in machine["versions"].items()},
        }

    def study(self, progress: Progress) -> Study:
        """What the model is measured on before and after."""
        asked = self.asked
        return Study(
            (self.base,), Preflight(), self.plan, asked.data, asked.train_data, asked.compute,
            progress, clock_of(asked.compute.budget),
        )  # fmt: skip

    @property
    def overlap(self) -> int:
        """Number of held-out documents that are also among the training data."""
        if self.plan.sample is None:
            return 0
        return len({*self.plan.sample.objective.documents} & {*_keys(self.objective)})


def make_tuning(model: Model, asked: TuningRequest) -> Tuning:
    """Read headers and data, and what of a model on the Hub is not here yet.

    Raises:
        GeoError: Something is missing or unusable.
    """
    found = open_checkpoint(model)
    refuse_foreign_needs(found)
    plan = plan_losses([found], asked.data, asked.compute)
    compute = replace(asked.compute, dtype="float32")
    training = training_objective(asked.train_data, found, compute)
    return Tuning(asked, found.fetch(), plan, training)


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe in words where two identities differ.

    Example:
        >>> changes({"steps": 5, "seed": 0}, {"steps": 6, "seed": 0})
        ['steps was 5, and is 6']
    """
    kept = json.loads(json.dumps(now))
    keys = [key for key in {**then, **kept} if then.get(key) != kept.get(key)]
    return [_change(key.replace("_", "-"), then.get(key), kept.get(key)) for key in keys]


def _change(name: str, then: object, now: object) -> str:
    if max(len(str(then)), len(str(now))) > SHOWN:
        return f"{name} has changed"
    return f"{name} was {then}, and is {now}"


def _keys(objective: Objective) -> list[str]:
    from mergekit_geo.evaluation.objective import TaskObjective

    return list(objective.documents) if isinstance(objective, TaskObjective) else []


def _digest(objective: Objective) -> str:
    from mergekit_geo.evaluation.objective import TaskObjective, digest

    fed = [objective.digest] if isinstance(objective, TaskObjective) else []
    return digest([*_keys(objective), *fed])
