"""transformers' Trainer on an objective: any task's losses, in an order that is a seed's alone.

The Trainer's data set is the numbers of batches, so that a run that was interrupted finds its place
without reading what came before, and all processes share one order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from mergekit_geo.outputs.writer import save_tensors
from mergekit_geo.processes import all_reduce, is_main_process, world
from mergekit_geo.training.summary import SamSummary
from mergekit_geo.training.trainer import COUNTS, SamTrainer

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from mergekit_geo.config.training import TrainingConfig
    from mergekit_geo.evaluation.batches import Shuffled

WEIGHTS = "model.safetensors"


class ObjectiveTrainer(SamTrainer):
    """Minimises an objective's mean, each token (or example) of a step counting alike.

    Args:
        batches: Training data in its order.
        trainer: What SamTrainer takes.
    """

    def __init__(self, batches: Shuffled, **trainer: Any) -> None:
        super().__init__(**trainer)
        self.batches = batches
        self.model_accepts_loss_kwargs = True  # losses are divided by all that a step counts
        for printer in (PrinterCallback, ProgressCallback):
            self.remove_callback(printer)

    @property
    def module(self) -> Module:
        """The module that is trained, without distributed wrappers."""
        assert self.model is not None
        return self.model

    def get_train_dataloader(self) -> DataLoader[int]:
        """The numbers of all batches of all processes, in order."""
        count = self.args.max_steps * self.args.gradient_accumulation_steps * world()[1]
        numbers: Any = range(count)
        loader: Any = DataLoader(numbers, batch_size=1, collate_fn=_numbered)
        return self.accelerator.prepare(loader)  # type: ignore[no-any-return]

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """The batches of a step, and what they count in all processes."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        weight = sum(self.batches.weight(int(sample["number"])) for sample in samples)
        return samples, all_reduce(torch.tensor(float(weight))).to(device)

    def compute_loss(
        self,
        model: Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """A batch's share of the mean loss of a step, times the processes that average it."""
        number = int(inputs["number"])
        losses, weights = self.batches.at(number)(model)
        weight = self.batches.weight(number)
        whole = weight if num_items_in_batch is None else float(num_items_in_batch) / world()[1]
        loss = losses @ weights / weights.sum() * (weight / whole)
        return (loss, None) if return_outputs else loss

    def counts(self) -> SamSummary:
        """What SAM did, also if this run had nothing left to train."""
        kept: Any = self.state.stateful_callbacks
        return SamSummary(**{field.name: kept[COUNTS][field.name] for field in fields(SamSummary)})

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the trained tensors under the module's names: exactly, for any architecture."""
        if self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
        elif is_main_process():
            folder = Path(output_dir or str(self.args.output_dir))
            folder.mkdir(parents=True, exist_ok=True)
            save_tensors(_trained(self.module), folder / WEIGHTS, {"format": "pt"})


def trainer_arguments(
    training: TrainingConfig, folder: Path, *, steps: int, rate: float, seed: int, cpu: bool
) -> TrainingArguments:
    """TrainingArguments of a fine-tuning.

    Args:
        training: As asked for.
        folder: Of the states that a run can be resumed from.
        steps: Of the optimizer.
        rate: The highest learning rate.
        seed: Of dropout, and of adapters.
        cpu: Run on the CPU even where there is an accelerator.
    """
    every = training.save_every or max(1, steps // 10)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        learning_rate=rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(training.warmup * steps),
        weight_decay=training.weight_decay,
        max_grad_norm=training.clip,
        per_device_train_batch_size=training.batch_size,
        gradient_accumulation_steps=training.accumulation,
        bf16=training.bf16,
        seed=seed,
        use_cpu=cpu,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        logging_steps=max(1, every // 5),
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        log_level_replica="error",
        dataloader_pin_memory=False,
    )
    assert arguments.device is not None  # settles the next line's attribute
    arguments._n_gpu = min(arguments.n_gpu, 1)  # DataParallel cannot split a batch's number
    return arguments


def optimizer_of(training: TrainingConfig, rate: float) -> tuple[type[torch.optim.Optimizer], Any]:
    """Class and settings of the optimizer."""
    if training.optimizer == "adamw":
        return torch.optim.AdamW, {"lr": rate, "fused": True}
    return torch.optim.SGD, {"lr": rate, "momentum": 0.9, "nesterov": True}


def _numbered(numbers: list[int]) -> dict[str, Tensor]:
    return {"number": torch.tensor(numbers)}


def _trained(model: Module) -> dict[str, Tensor]:
    """Trained weights, shared ones once, and persistent buffers."""
    own = dict(model.named_parameters(remove_duplicate=False))
    tensors = {name: p for name, p in model.named_parameters() if p.requires_grad}
    buffers = {name: t.clone() for name, t in model.state_dict().items() if name not in own}
    return {name: t.detach().contiguous() for name, t in {**tensors, **buffers}.items()}
