"""The key `finetune`: members that are trained first; named as the flags of the command are."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from mergekit_geo.config.data import TRAIN, EvalData
from mergekit_geo.errors import ArgumentError
from mergekit_geo.files.sound_json import brief
from mergekit_geo.limits import MOST
from mergekit_geo.recipes.part import RecipeKeys, Seed, Whole
from mergekit_geo.training.config import SamArguments
from mergekit_geo.training.hyperparameters import TrainingConfig

NAME, UNFINISHED = re.compile(r"\w[\w.-]*"), ".partial"
"""Names of members, and the suffix of their folders during training."""

READ_AS = ("task", "text_column", "label_column", "image_column", "loss_on", "seq_len")
"""Keys of the objective that hold for training data too, where an entry does not say otherwise."""


class FinetuneKeys(RecipeKeys):
    """A member that is trained first, or several that differ in their seeds.

    Attributes:
        name: What the recipe calls it; of several, `NAME-0`, `NAME-1`, ...
        model: What is trained.
        train_data: What it is trained on, read as the objective is where nothing is said.
        members: How many are trained, with seeds from `seed` on.
        seed: Of the order of examples, dropout and adapters; the recipe's if None.
        rho: Radius of SAM's ascent; 0 is the optimizer alone.
        adaptive: Scale the ascent by the weights.
        every: Ascend at every n-th step only.
        optimizer: What steps.
        epochs: Through the training data; 1 if neither this nor `steps` is said.
        steps: In place of epochs.
        lr: Learning rate; by the size of the model if None.
        warmup: Share of the steps.
        weight_decay: Not of biases and norms.
        train_batch_size: Examples of a batch.
        gradient_accumulation: Batches of a step.
        bf16: Run under bfloat16 autocast.
        gradient_checkpointing: Less memory, more time.
        lora_rank: Train adapters of this rank, merged into the member.
        save_every: Steps between states to resume from; a tenth of all if None.
        split: Of the training data; `train` if None.
        config: As `--data-config`.
        task: As `--task`.
        text_column: As `--text-column`.
        label_column: As `--label-column`.
        image_column: As `--image-column`.
        loss_on: As `--loss-on`.
        seq_len: As `--seq-len`.
    """

    name: str
    model: str
    train_data: Annotated[str, Field(min_length=1)]
    members: Annotated[Whole | None, Field(ge=2, le=MOST["members"])] = None
    seed: Seed | None = None
    rho: float = 0.05
    adaptive: bool = False
    every: Whole = 1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    epochs: float | None = None
    steps: Whole | None = None
    lr: float | None = None
    warmup: float = 0.05
    weight_decay: float = 0.01
    train_batch_size: Whole = 32
    gradient_accumulation: Whole = 1
    bf16: bool = False
    gradient_checkpointing: bool = False
    lora_rank: Whole | None = None
    save_every: Whole | None = None
    split: str | None = None
    config: str | None = None
    task: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    image_column: str | None = None
    loss_on: Literal["assistant", "all"] | None = None
    seq_len: Annotated[Whole | None, Field(ge=2)] = None

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
        return TrainingConfig(
            optimizer=self.optimizer,
            epochs=self.epochs,
            steps=self.steps,
            learning_rate=self.lr,
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            batch_size=self.train_batch_size,
            accumulation=self.gradient_accumulation,
            bf16=self.bf16,
            lora_rank=self.lora_rank,
            gradient_checkpointing=self.gradient_checkpointing,
            save_every=self.save_every,
        )

    def sam(self) -> SamArguments:
        """Settings of SAM."""
        return SamArguments(rho=self.rho, adaptive=self.adaptive, every=self.every)

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
