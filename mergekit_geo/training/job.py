"""Training a model from a checkpoint on, or from the state that an earlier run left."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import TrainerCallback, set_seed

from mergekit_geo.collectives import accelerate_kept
from mergekit_geo.config.training import LOOK
from mergekit_geo.errors import UnsupportedError
from mergekit_geo.evaluation.batches import Shuffled
from mergekit_geo.modules.load import quiet_transformers
from mergekit_geo.modules.open import open_module
from mergekit_geo.modules.stored import Stored
from mergekit_geo.processes import broadcast, is_main_process, world
from mergekit_geo.progress import Progress, Steps
from mergekit_geo.records.training import TrainingEntry
from mergekit_geo.training.objective_trainer import (
    ObjectiveTrainer,
    optimizer_of,
    trainer_arguments,
)
from mergekit_geo.training.store import STATES, latest_state, mark_whole

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from mergekit_geo.outputs.output import Output
    from mergekit_geo.training.tuning import Tuning


LONG = 2.0
"""Seconds that are worth telling of."""


@dataclass(frozen=True)
class TrainedModel:
    """Result of a training.

    Attributes:
        state: Tensors by stored name, on the CPU; empty in all processes but the first.
        entry: For the report.
    """

    state: dict[str, Tensor]
    entry: TrainingEntry


def train(tuning: Tuning, output: Output) -> TrainedModel:
    """Train in float32, whatever the checkpoint is stored in.

    The caller's random state, and accelerate's where there is one, are afterwards what they were.

    Args:
        tuning: What, on what, and how.
        output: Holds the states.

    Raises:
        UnsupportedError: The architecture or the set-up cannot be trained.
        GeoError: As SamTrainer raises.
    """
    with accelerate_kept(), randomness_kept():
        return _trained(tuning, output)


def _trained(tuning: Tuning, output: Output) -> TrainedModel:
    asked = tuning.asked
    module = open_module(tuning.base, replace(asked.compute, dtype="float32", device="cpu")).float()
    stored = Stored(module, tuning.base)
    batches = Shuffled(tuning.objective, asked.training.batch_size, asked.seed)
    with quiet_transformers():
        trainer = _trainer(tuning, module, batches, output)
        latest = broadcast(latest_state(output.folder / STATES))
        trainer.train(resume_from_checkpoint=None if latest is None else str(latest))
        asked.told.say(f"trained {trainer.state.global_step} steps, SAM {_mode(trainer)}")
        entry = _entry(tuning, trainer, batches)
        as_stored = asked.output.dtype is None
        tensors = _tensors(trainer, adapted=asked.training.lora_rank is not None)
    state = stored.state(tensors, as_stored=as_stored) if is_main_process() else {}
    return TrainedModel(state, entry)


def _trainer(tuning: Tuning, module: Module, batches: Shuffled, output: Output) -> ObjectiveTrainer:
    asked, training = tuning.asked, tuning.asked.training
    steps = training.steps_of(batches.count, world()[1])
    rate = training.rate(sum(p.numel() for p in module.parameters()))
    set_seed(asked.seed)
    if training.lora_rank is not None:
        module = with_adapters(module, training.lora_rank)
    enable: Any = getattr(module, "gradient_checkpointing_enable", None)
    if training.gradient_checkpointing and enable is not None:
        enable()
    arguments = trainer_arguments(
        training, output.folder / STATES, steps=steps, rate=rate, seed=asked.seed,
        cpu=_on_cpu(asked.compute.device),
    )  # fmt: skip
    trainer = ObjectiveTrainer(
        batches,
        model=module,
        args=arguments,
        sam=asked.sam,
        optimizer_cls_and_kwargs=optimizer_of(training, rate),
        callbacks=[_Told(asked.told, fsync=asked.output.fsync)],
    )
    if training.lora_rank is not None and trainer.is_fsdp_enabled:
        raise UnsupportedError(
            "adapters cannot be merged into weights that FSDP shards",
            remedy="leave --lora-rank out, or train without FSDP",
        )
    return trainer


def _on_cpu(device: str | None) -> bool:
    """Whether training runs on the CPU, by the rule by which models are loaded."""
    return device == "cpu" or (device is None and not torch.cuda.is_available())


def _tensors(trainer: ObjectiveTrainer, *, adapted: bool) -> Mapping[str, Tensor]:
    """Tensors of the trained model, by its own names, with adapters merged."""
    if adapted:
        return merged(trainer.module).state_dict()
    found: Mapping[str, Tensor] = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return found


def _mode(trainer: ObjectiveTrainer) -> str:
    return trainer.counts().mode if trainer.sam_arguments.rho else "off"


def _entry(tuning: Tuning, trainer: ObjectiveTrainer, batches: Shuffled) -> TrainingEntry:
    asked, summary, state = tuning.asked, trainer.counts(), trainer.state
    share = asked.training.accumulation * world()[1]
    return TrainingEntry(
        steps=state.global_step,
        epochs=state.global_step * share / batches.count,
        batches=share,
        batch_size=batches.size,
        trained=sum(p.numel() for p in trainer.module.parameters() if p.requires_grad),
        lora_rank=asked.training.lora_rank,
        optimizer=asked.training.optimizer,
        learning_rate=trainer.args.learning_rate,
        rho=asked.sam.rho,
        adaptive=asked.sam.adaptive,
        every=asked.sam.every,
        variant=asked.sam.variant,
        alpha=asked.sam.alpha if asked.sam.variant == LOOK else None,
        mode=_mode(trainer),
        ascents=summary.ascents,
        passes=summary.backward_passes,
        skipped=summary.skipped,
        history=[(log["step"], log["loss"]) for log in state.log_history if "loss" in log],
    )


class _Told(TrainerCallback):
    """Reports a run's progress, and marks its states as complete.

    Args:
        progress: Told of it.
        fsync: Flush states to the disk first.
    """

    def __init__(self, progress: Progress, *, fsync: bool) -> None:
        self.progress, self.fsync = progress, fsync
        self._second: float | None = None
        self._steps = Steps("training")

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Start the progress with the number of steps."""
        self.progress.phase("training", state.max_steps)
        self.progress.advance(state.global_step)
        if state.global_step:
            self.progress.say(f"resumed at step {state.global_step} of {state.max_steps}")

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Count, and log where a state is kept, so that a resumed run logs the same."""
        self.progress.advance(1)
        self._tell_cost(state.max_steps - state.global_step)
        self._steps.expect(self.progress, state.max_steps - state.global_step)
        control.should_log = control.should_log or control.should_save

    def _tell_cost(self, left: int) -> None:
        """Report the expected duration from the second step, as the first is slower."""
        if self._second is None:
            self._second = time.monotonic()
        elif self._second:
            seconds = (time.monotonic() - self._second) * left
            self._second = 0.0
            if seconds > LONG:
                self.progress.say(f"{left} more steps: about {seconds:.0f} s")

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Mark the state that was written as complete."""
        mark_whole(Path(args.output_dir) / f"checkpoint-{state.global_step}", fsync=self.fsync)
        losses = [log["loss"] for log in state.log_history if "loss" in log]
        self.progress.say(f"step {state.global_step}: training loss {losses[-1]:.4f}")


def let_go() -> None:
    """Free memory: the trained model is on the disk, and is measured from there."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def randomness_kept() -> Iterator[None]:
    """Restore the generators of Python, NumPy and torch afterwards, whatever seeds are set.

    Example:
        >>> before = torch.get_rng_state()
        >>> with randomness_kept():
        ...     _ = torch.manual_seed(0)
        >>> torch.get_rng_state().equal(before)
        True
    """
    before = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def with_adapters(model: Module, rank: int) -> Module:
    """Add adapters to a model, and make only them trainable.

    Args:
        model: Whose linear layers but the head get them; it is changed.
        rank: Of each.

    Raises:
        UnsupportedError: The model has no layer that takes an adapter.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    try:
        adapted: Module = get_peft_model(model, config)
    except ValueError as error:
        raise UnsupportedError(
            f"no adapter can be put into a {type(model).__name__}: {error}",
            remedy="leave --lora-rank out: all weights are trained",
        ) from error
    return adapted


def merged(model: Any) -> Module:
    """Merge a model's adapters into its weights, and return the plain model."""
    whole: Module = model.merge_and_unload(safe_merge=True)
    return whole
