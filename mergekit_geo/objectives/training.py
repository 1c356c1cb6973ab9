"""The objective that is fitted or fine-tuned on."""

from __future__ import annotations

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.errors import DataError
from mergekit_geo.live.settings import Compute
from mergekit_geo.objectives.evaluation import prepare
from mergekit_geo.objectives.objective import Objective
from mergekit_geo.objectives.settings import EvalData
from mergekit_geo.workflows.losses import Data


def training_objective(train_data: Data, donor: Checkpoint, compute: Compute) -> Objective:
    """What is fitted on.

    Raises:
        DataError: It is missing or unusable.
    """
    if not isinstance(train_data, EvalData):
        assert train_data is not None
        return train_data
    if donor.folder is None:
        raise DataError(
            "a model in memory comes without its tokenizer",
            remedy="give a FunctionObjective of training batches",
        )
    return prepare(train_data, donor.folder, donor.config, compute).objective
