"""The objective that is fitted or fine-tuned on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import source_of
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.evaluation import prepare
from mergekit_geo.evaluation.objective import Objective

if TYPE_CHECKING:
    from mergekit_geo.config.data import Data


def training_objective(train_data: Data, donor: Checkpoint, compute: Compute) -> Objective:
    """The objective of fitting and fine-tuning, on training data.

    Raises:
        DataError: It is missing or unusable.
    """
    source = source_of(train_data)
    if source.as_objective is not None:
        found: Objective = source.as_objective
        return found
    assert source.as_settings is not None, "no training data"
    if donor.folder is None:
        raise DataError(
            "a model in memory comes without its tokenizer",
            remedy="give a FunctionObjective of training batches",
        )
    return prepare(source.as_settings, donor.folder, donor.config, compute).objective
