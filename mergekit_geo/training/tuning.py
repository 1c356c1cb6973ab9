"""A fine-tuning, or an escape, as asked for, with all that is read before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.comparison import Preflight
from mergekit_geo.checkpoints.content import model_key
from mergekit_geo.checkpoints.left_out import refuse_foreign_needs
from mergekit_geo.checkpoints.reference import open_checkpoint
from mergekit_geo.evaluation.cache_key import machine_key
from mergekit_geo.evaluation.objective import Objective, TaskObjective, digest
from mergekit_geo.evaluation.sample import training_objective
from mergekit_geo.evaluation.study import Study
from mergekit_geo.processes import world
from mergekit_geo.specs.training import EscapeSpec, FinetuneSpec

Asked = TypeVar("Asked", FinetuneSpec, EscapeSpec)

ASIDE = ("train_data", "data", "output", "compute", "sharpness")
"""Settings that the trained weights do not depend on, or by a part of them alone."""


@dataclass(frozen=True)
class Retraining(Generic[Asked]):
    """What was asked for, and what it is done with.

    Attributes:
        asked: The options.
        base: The model, its data here.
        measured: What loss is measured on.
        objective: What is trained on.
    """

    asked: Asked
    base: Checkpoint
    measured: Study
    objective: Objective

    def with_seed(self, seed: int) -> Retraining[Asked]:
        """Copy with another seed."""
        return replace(self, asked=replace(self.asked, seed=seed))

    def fingerprint(self) -> dict[str, Any]:
        """A JSON value of all that the trained weights depend on."""
        asked = self.asked
        settings = {name: value for name, value in asked.settings().items() if name not in ASIDE}
        train = asked.settings()["train_data"] or {}
        machine = machine_key(asked.compute)
        return {
            **settings,
            **{f"train-data {key}": value for key, value in train.items()},
            "training examples": _digest(self.objective),
            "processes": world()[1],
            "dtype": asked.output.dtype,
            "max-shard-size": asked.output.max_shard_size,
            "model": model_key(self.base),
            **{key: found for key, found in machine.items() if key not in ("dtype", "versions")},
            **{f"version of {name}": found for name, found in machine["versions"].items()},
        }

    def study(self) -> Study:
        """What the model is measured on before and after."""
        return self.measured.of_models((self.base,))

    @property
    def overlap(self) -> int:
        """Number of held-out documents that are also among the training data."""
        samples = [study.sample for study in self.measured.sets]
        held_out = {key for one in samples if one for key in one.objective.documents}
        return len(held_out & {*_keys(self.objective)})


Tuning = Retraining[FinetuneSpec]
"""A fine-tuning as asked for."""


def make_tuning(asked: Asked) -> Retraining[Asked]:
    """Read headers and data, and what of a model on the Hub is not here yet.

    Raises:
        GeoError: Something is missing or unusable.
    """
    found = open_checkpoint(asked.model)
    refuse_foreign_needs(found)
    measured = Study.of([found], Preflight(), asked)
    compute = replace(asked.compute, dtype="float32")
    training = training_objective(asked.train_data, found, compute)
    return Retraining(asked, found.fetch(), measured, training)


def _keys(objective: Objective) -> list[str]:
    return list(objective.documents) if isinstance(objective, TaskObjective) else []


def _digest(objective: Objective) -> str:
    fed = [objective.digest] if isinstance(objective, TaskObjective) else []
    return digest([*_keys(objective), *fed])
