"""The key `along`: a path between models, how it is fitted, and which of its points is taken."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from mergekit_geo.connectivity.config import FITTED, CurveFitConfig
from mergekit_geo.errors import ArgumentError
from mergekit_geo.recipes.part import RecipeKeys, Seed, Whole
from mergekit_geo.selection.config import SelectionConfig

CHOICE = ("kind", "pick", "train_data", "average_points", "tolerance", "control")


class AlongKeys(RecipeKeys):
    """A path between models, and which of its points is taken; named as the flags are.

    Attributes:
        kind: `linear`, `slerp`, `bezier`, `polygon`, `neb`, or the folder of a fitted path.
        pick: `best` by loss, `midpoint`, `mean` or `flattest`; the best if None.
        train_data: What a path is fitted to, read as the objective is but from the split that is
            for training.
        average_points: How many points the mean is over.
        tolerance: Share of the lowest loss that the flattest point may be worse by.
        control: Whether the ends of a fitted path are trained further, to be compared with it.
        bends: Of a path that is fitted, as in `geo-merge path`; so are all that follow.
        steps: Of the optimizer.
        optimizer: What fits the bends.
        lr: Learning rate.
        train_batch_size: Examples of a batch.
        gradient_accumulation: Batches of a step.
        restarts: Seeds; the best fit is kept.
        bf16: Run under bfloat16 autocast.
        gradient_checkpointing: Less memory, more time.
        seed: Of the first fit; the recipe's if None.
    """

    kind: str
    pick: Literal["best", "midpoint", "mean", "flattest"] | None = None
    train_data: str | None = None
    average_points: Whole = 9
    tolerance: float = 0.005
    control: bool | None = None
    bends: Whole | None = None
    steps: Whole | None = None
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float | None = None
    train_batch_size: Whole = 32
    gradient_accumulation: Whole = 1
    restarts: Whole = 1
    bf16: bool = False
    gradient_checkpointing: bool = False
    seed: Seed | None = None

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        self.choosing()
        self.fitting()
        idle = sorted(self.model_fields_set.difference(CHOICE))
        if idle and self.kind not in FITTED:
            fitted = ", ".join(FITTED)
            raise ArgumentError(
                f"{idle[0]} is of a fit, and {self.kind} is not fitted",
                remedy=f"leave it out, or fit one: kind {fitted}",
            )
        return self

    def choosing(self) -> SelectionConfig:
        """How the point is chosen."""
        return SelectionConfig(
            along=self.kind, pick=self.pick, average_points=self.average_points,
            tolerance=self.tolerance, control=self.control,
        )  # fmt: skip

    def fitting(self) -> CurveFitConfig:
        """How the path is fitted, where it is."""
        return CurveFitConfig(
            kind=self.kind if self.kind in FITTED else FITTED[0],
            bends=self.bends,
            steps=self.steps,
            optimizer=self.optimizer,
            learning_rate=self.lr,
            batch_size=self.train_batch_size,
            accumulation=self.gradient_accumulation,
            restarts=self.restarts,
            bf16=self.bf16,
            gradient_checkpointing=self.gradient_checkpointing,
        )
