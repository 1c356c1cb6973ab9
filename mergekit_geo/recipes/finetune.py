"""The key `finetune`: members that are trained first; named as the flags of the command are."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from mergekit_geo.config.data import TRAIN, EvalData
from mergekit_geo.config.keys import keyed
from mergekit_geo.config.training import SamArguments, TrainingConfig
from mergekit_geo.errors import ArgumentError
from mergekit_geo.files.sound_json import brief
from mergekit_geo.specs.training import FinetuneSpec

NAME, UNFINISHED = re.compile(r"\w[\w.-]*"), ".partial"
"""Names of members, and the suffix of their folders during training."""

READ_AS = ("task", "text_column", "label_column", "image_column", "loss_on", "seq_len")
"""Keys of the objective that hold for training data too, where an entry does not say otherwise."""

_Command: Any = keyed(FinetuneSpec, only=("members", "seed"), stated=False)
_Training: Any = keyed(TrainingConfig)
_Ascent: Any = keyed(SamArguments, leave=("ascent",))
_Data: Any = keyed(
    EvalData, leave=("data", "max_examples", "batch_size", "seed"), stated=False,
    called={"data_config": "config"},
)  # fmt: skip


class FinetuneKeys(_Ascent, _Training, _Data, _Command):  # type: ignore[misc]
    """A member that is trained first, or several (`members`) with seeds from `seed` on.

    The seed is the recipe's if None.

    Attributes:
        name: What the recipe calls it; of several, `NAME-0`, `NAME-1`, ...
        model: What is trained.
        train_data: What it is trained on, read as the objective is where nothing is said.
    """

    name: str
    model: str
    train_data: Annotated[str, Field(min_length=1)]

    @field_validator("name")
    @classmethod
    def _is_a_folder(cls, name: str) -> str:
        if not NAME.fullmatch(name) or name.endswith(UNFINISHED):
            raise ArgumentError(
                f"a member lies in a folder of its name, found {brief(name)}",
                remedy="letters, digits, - and _, such as flat-1",
            )
        return name

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        self.training()
        self.sam()
        return self

    def training(self) -> TrainingConfig:
        """Settings of the training."""
        found: TrainingConfig = self.settings(TrainingConfig)
        return found

    def sam(self) -> SamArguments:
        """Settings of SAM."""
        found: SamArguments = self.settings(SamArguments)
        return found

    def data(self, objective: EvalData) -> EvalData:
        """Training data.

        Args:
            objective: What says how it is read, where the entry does not.
        """
        said = {key: getattr(self, key) for key in READ_AS}
        read = {key: getattr(objective, key) if said[key] is None else said[key] for key in READ_AS}
        config = self.config
        if config is None and self.train_data == objective.source:
            config = objective.config
        return EvalData(self.train_data, split=self.split or TRAIN, config=config, **read)
