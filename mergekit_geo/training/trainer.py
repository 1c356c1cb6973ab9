"""SAM in transformers' Trainer, and in any subclass of it by the mixin."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import Module
from transformers import Trainer

from mergekit_geo.config.training import SamArguments
from mergekit_geo.training.checks import check_backend, check_optimizer, check_weights
from mergekit_geo.training.sam import Sam, SamSummary

COUNTS = "SamCounts"
if TYPE_CHECKING:
    Below = Trainer
else:
    Below = object


class SamMixin(Below):
    """Gives a Trainer SAM's steps: `class SamSFTTrainer(SamMixin, SFTTrainer): ...`.

    The passes of a step are training steps of the class below, so losses, collators and metrics
    stay what they are. The loss that is logged is that at the weights, not uphill.

    Args:
        given: What the class below takes.
        sam: How SAM steps.
        named: What the class below takes.

    Raises:
        ArgumentError: Nothing is trainable, or the optimizer needs a closure.
        UnsupportedError: Weights in half precision, DeepSpeed or FSDP 1.

    Example:
        >>> from transformers import Seq2SeqTrainer
        >>> class SamSeq2SeqTrainer(SamMixin, Seq2SeqTrainer): ...
    """

    def __init__(self, *given: Any, sam: SamArguments | None = None, **named: Any) -> None:
        self.sam_arguments = SamArguments() if sam is None else sam
        self._sam: Sam | None = None
        super().__init__(*given, **named)
        module: Any = self.model
        check_backend(module, self.accelerator)
        check_weights([p for p in module.parameters() if p.requires_grad])
        if self.optimizer is not None:
            check_optimizer(self.optimizer)

    @property
    def sam_summary(self) -> SamSummary:
        """What SAM did in the last training and what that was resumed from."""
        if self._sam is not None:
            return self._sam.summary
        return SamSummary(**{"mode": self.sam_arguments.ascent, **self._kept.get(COUNTS, {})})

    def train(self, *given: Any, **named: Any) -> Any:
        """Train as the base class does, with a new SAM state."""
        self._sam = None
        return super().train(*given, **named)

    def training_step(
        self, model: Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """A micro-batch; the last one of a step climbs, and all are run again there."""
        if self._sam is None or self._sam.model is not model:  # wrapped anew for smaller batches
            self._sam = self._begun(model)
        below, last = super().training_step, self.accelerator.sync_gradients
        loss = self._sam.run(lambda: below(model, copy.copy(inputs), num_items_in_batch), last=last)
        if last:
            self._kept[COUNTS] = self._sam.state_dict()
        return loss

    def _begun(self, model: Module) -> Sam:
        """A new SAM object with the counts of the checkpoint that training resumes from."""
        optimizer: Any = self.optimizer
        sam = Sam(model, optimizer, self.sam_arguments, accelerator=self.accelerator)
        counts = {**sam.state_dict(), **self._kept.get(COUNTS, {}), "steps": self.state.global_step}
        sam.load_state_dict(counts)
        return sam

    @property
    def _kept(self) -> dict[str, Any]:
        """What the Trainer keeps for us in trainer_state.json."""
        kept: Any = self.state.stateful_callbacks
        found: dict[str, Any] = kept
        return found


class SamTrainer(SamMixin, Trainer):
    """transformers' Trainer with SAM.

    Args:
        given: What Trainer takes.
        sam: How SAM steps.
        named: What Trainer takes.

    Raises:
        ArgumentError: Nothing is trainable, or the optimizer needs a closure.
        UnsupportedError: Weights in half precision, DeepSpeed or FSDP 1.

    Example:
        >>> import tempfile, torch
        >>> from transformers import TrainingArguments
        >>> args = TrainingArguments(tempfile.mkdtemp(), report_to=[], use_cpu=True)
        >>> model = torch.nn.Linear(1, 1)
        >>> trainer = SamTrainer(model=model, args=args, sam=SamArguments(rho=0.1, every=5))
        >>> trainer.sam_summary.ascents
        0
    """
