"""SAM in transformers' Trainer, and in any subclass of it by the mixin."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file
from torch import Tensor
from torch.nn import Module
from transformers import Trainer

from mergekit_geo.config.training import SamArguments
from mergekit_geo.outputs.writer import save_tensors
from mergekit_geo.training.checks import check_backend, check_optimizer, check_weights
from mergekit_geo.training.sam import REUSED, Sam
from mergekit_geo.training.summary import SamSummary

COUNTS = "SamCounts"
if TYPE_CHECKING:
    Below = Trainer
else:
    Below = object

SAM_STATE = "sam.safetensors"
"""The file in a state that holds what LookSAM uses again."""


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
        self._state: Path | None = None
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
        self._sam, self._state = None, None
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
            self._kept[COUNTS] = asdict(self._sam.summary)
        return loss

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Save what LookSAM uses again beside the optimizer's state."""
        super()._save_optimizer_and_scheduler(output_dir)
        tensors = [] if self._sam is None else self._sam.reused.state()
        if tensors and self.args.should_save:
            _write_reused(tensors, Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Remember the checkpoint that is resumed from."""
        super()._load_optimizer_and_scheduler(checkpoint)
        self._state = None if checkpoint is None else Path(checkpoint)

    def _begun(self, model: Module) -> Sam:
        """A new SAM object with the counts of the checkpoint that training resumes from."""
        optimizer: Any = self.optimizer
        sam = Sam(model, optimizer, self.sam_arguments, accelerator=self.accelerator)
        counts = {**self._kept.get(COUNTS, {}), "steps": self.state.global_step}
        tensors = [] if self._state is None else _read_reused(self._state)
        sam.load_state_dict({**asdict(sam.summary), **counts, REUSED: tensors})
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


def _write_reused(tensors: Sequence[Tensor], folder: Path) -> None:
    """Write the tensors under their numbers."""
    numbered = {str(number): tensor.contiguous() for number, tensor in enumerate(tensors)}
    save_tensors(numbered, folder / SAM_STATE, {"format": "pt"})


def _read_reused(folder: Path) -> list[Tensor]:
    """The tensors in their order; none where there is no file."""
    path = folder / SAM_STATE
    found = load_file(path) if path.exists() else {}
    return [found[str(number)] for number in range(len(found))]
