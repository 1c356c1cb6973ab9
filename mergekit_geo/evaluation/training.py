"""The objective that is fitted or fine-tuned on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import EvalData
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.evaluation import prepare
from mergekit_geo.evaluation.objective import Objective

if TYPE_CHECKING:
    from mergekit_geo.evaluation.losses import Data


def training_objective(train_data: Data, donor: Checkpoint, compute: Compute) -> Objective:
    """The objective of fitting and fine-tuning, on training data.

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
