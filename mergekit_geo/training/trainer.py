"""SAM in transformers' Trainer, and in any subclass of it by the mixin."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import Module
from transformers import Trainer, TrainingArguments

from mergekit_geo.training.refusals import check_backend, check_weights
from mergekit_geo.training.sam import Sam
from mergekit_geo.training.settings import SamArguments
from mergekit_geo.training.summary import SamSummary


class SamMixin:
    """Gives a Trainer SAM's steps: `class SamSFTTrainer(SamMixin, SFTTrainer): ...`.

    A training step whose passes are those of the class below it, so its losses, collators and
    metrics stay what they are; the loss that is logged is the one at the weights, not uphill.

    Args:
        args: TrainingArguments, as ever.
        sam: How SAM steps.
        trainer: What the class below takes.

    Raises:
        ArgumentError: Nothing is trainable, or the optimizer calls its own closure.
        UnsupportedError: Weights in half precision, DeepSpeed or FSDP 1.
    """

    def __init__(
        self,
        *positional: Any,
        sam: SamArguments | None = None,
        **trainer: Any,
    ) -> None:
        self.sam_arguments = SamArguments() if sam is None else sam
        self._sam: Sam | None = None
        super().__init__(*positional, **trainer)

    @property
    def sam_summary(self) -> SamSummary:
        """What SAM did so far in this process.

        Raises:
            ArgumentError: No step was made yet.
        """
        raise NotImplementedError

    def training_step(
        self, model: Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """A micro-batch; at the last one of a step, climb, replay them all and return."""
        raise NotImplementedError


class SamTrainer(SamMixin, Trainer):
    """transformers' Trainer with SAM.

    Example:
        >>> from transformers import TrainingArguments
        >>> SamTrainer.__mro__[1].__name__
        'SamMixin'
    """
