"""Sharpness-aware minimisation: step by the gradient found a little uphill (Foret 2021).

With g the gradient of the loss L at the weights w, the optimizer is given the gradient of L at
w + e, e = rho g / ||g||, instead of g. In a training loop `loss.backward()` becomes
`sam.backward(loss, batch)`, and the rest stays as it is:

    sam = Sam(model, optimizer, SamArguments(rho=0.05), accelerator=accelerator)
    for batch in loader:
        with accelerator.accumulate(model):
            loss = sam.backward(lambda batch: model(**batch).loss, batch)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

Afterwards the weights are those of before to the bit, and `.grad` holds the gradient at w + e. Four
things make it right. e is that of the whole step: its micro-batches are kept and run again. Each
process climbs by its own gradient, which is not exchanged (smaller batches in e generalise better,
Foret 2021, section 4.1), unless `synchronised` is asked for or the weights are sharded. The second
pass draws what the first drew and leaves running statistics alone. And a step whose loss or
gradient is not finite is left out, on all processes or on none.

Two variants cost less. `momentum` makes its only pass where the optimizer's momentum leads
(Becker 2024): losses, and running statistics, are then of the perturbed weights. `look` climbs at
every n-th step and uses a part of what it found in between (Liu 2022).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from mergekit_geo.config.training import LOOK, MOMENTUM, PER_REPLICA, SYNCHRONISED, SamArguments
from mergekit_geo.errors import NonFiniteError
from mergekit_geo.training.ascent import Ascent
from mergekit_geo.training.checks import check_backend, check_optimizer, check_weights
from mergekit_geo.training.momentum import check_momentum
from mergekit_geo.training.replay import RandomState, Statistics, devices_of
from mergekit_geo.training.replicas import all_agree, mode_of, rank, unexchanged, world
from mergekit_geo.training.reused import Reused
from mergekit_geo.training.summary import SamSummary

if TYPE_CHECKING:
    from accelerate import Accelerator

Batch = TypeVar("Batch")
Pass = Callable[[], Tensor]
logger = logging.getLogger(__name__)
REUSED = "reused"
"""The part of a state that is tensors."""


class Sam:
    """The step of SAM, around any optimizer of torch that steps by `.grad`.

    Args:
        model: As it is called in training, so what `prepare`, DistributedDataParallel or
            `fully_shard` returned; its trained weights in float32 or float64.
        optimizer: Of those weights. A parameter group may hold its own radius under `rho`.
        settings: Radius and kind.
        accelerator: Of accelerate, if the loop uses one: its `backward`, scaler and accumulation.
        scaler: For fp16 without accelerate.

    Raises:
        ArgumentError: Nothing is trainable, the optimizer needs a closure, a group's rho cannot be
            meant, or the model is not wrapped though there are several processes.
        UnsupportedError: Weights in half precision, DeepSpeed or FSDP 1.

    Example:
        L = w^2 / 2 at w = 1 has the gradient 1, so SAM steps by the gradient at 1.5.

        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.ones_(model.weight)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> sam = Sam(model, sgd, SamArguments(rho=0.5))
        >>> float(sam.backward(lambda x: (model(x) ** 2).sum() / 2, torch.ones(1, 1)))
        0.5
        >>> model.weight.item(), model.weight.grad.item()
        (1.0, 1.5)
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        settings: SamArguments | None = None,
        *,
        accelerator: Accelerator | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.model, self.settings = model, settings or SamArguments()
        self.accelerator = accelerator
        self.scaler = scaler if accelerator is None else accelerator.scaler
        check_backend(model, accelerator)
        check_optimizer(optimizer)
        self.ascent = Ascent(optimizer, model, self.settings)
        check_weights(self.ascent.parameters)
        self._leads, asked = self.settings.variant == MOMENTUM, self.settings.ascent
        if self._leads:
            check_momentum(optimizer)
        looks = self.settings.variant == LOOK
        self.reused = Reused(self.ascent.all if looks else [], self.settings.alpha)
        self.summary = SamSummary(mode_of(model, SYNCHRONISED if self._leads else asked))
        self._step = _Step()
        self._statistics, self._devices = Statistics(model), devices_of(model)
        if rank() == 0:
            logger.info("%s; ascent %s, %d processes", self.settings, self.mode, world())

    @property
    def mode(self) -> str:
        """The ascent in force: `per-replica` or `synchronised`."""
        return self.summary.mode

    def backward(
        self, loss: Callable[[Batch], Tensor], batch: Batch, *, last: bool | None = None
    ) -> Tensor:
        """Replace `loss(batch).backward()`: after the last micro-batch `.grad` is SAM's gradient.

        A step with a loss or gradient that is not finite leaves no gradients, so that the optimizer
        has nothing to do; with a scaler it leaves NaN, so that the scaler makes no step.

        Args:
            loss: Of a batch, by the model as it is called in training; called again uphill. Of a
                micro-batch its share of the step's, which accelerate sees to by itself.
            batch: What it takes; kept to the end of the step.
            last: Whether this ends the step; by default as accelerate accumulates, else True.

        Returns:
            The loss at the weights, or at the perturbed ones for momentum-SAM, detached: ().

        Raises:
            NonFiniteError: So many steps in a row were skipped as the settings bear.
        """
        if last is None:
            last = self.accelerator is None or self.accelerator.sync_gradients
        return self.run(partial(self._backward, loss, batch), last=last)

    def run(self, once: Pass, *, last: bool = True) -> Tensor:
        """Run a micro-batch by a function that makes both the forward and the backward pass.

        Args:
            once: Makes them and returns the loss; called again uphill.
            last: Whether this ends the step.
        """
        try:
            loss = self._first(once, last)
            if last:
                self._finish()
        except BaseException:
            self._step = _Step()
            self.ascent.clear()
            raise
        return loss

    def state_dict(self) -> dict[str, Any]:
        """What belongs into a checkpoint: `accelerator.register_for_checkpointing(sam)`.

        Every process has to call it, as LookSAM's part of it may be sharded.
        """
        return {**asdict(self.summary), REUSED: self.reused.state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore from a checkpoint, in the mode that is in force here."""
        counts = {name: value for name, value in state.items() if name != REUSED}
        self.summary = SamSummary(**{**counts, "mode": self.mode})
        self.reused.load(state.get(REUSED, []))

    @property
    def _climbs(self) -> bool:
        """Whether the gradient of this step is to be that of perturbed weights (see `every`)."""
        due = self.summary.steps % self.settings.every == 0
        return self.ascent.rho > 0 and (due or self.reused.is_missing)

    def _backward(self, loss: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        value = loss(batch)
        if self.accelerator is not None:
            self.accelerator.backward(value)
        else:
            scaled = value if self.scaler is None else self.scaler.scale(value)
            scaled.backward()
        return value

    def _first(self, once: Pass, last: bool) -> Tensor:
        """First pass of a micro-batch: at the weights themselves, or where momentum leads."""
        if not self._step.losses:
            self._step.statistics = self._statistics.copy()
        if self._leads and self._climbs:
            with self.ascent.ahead() as self._step.led:
                return self._pass(once, alone=not last)
        if self._climbs:
            self._step.passes.append((once, RandomState.now(self._devices)))
        return self._pass(once, alone=not last or (self._climbs and self.mode == PER_REPLICA))

    def _pass(self, once: Pass, *, alone: bool) -> Tensor:
        with unexchanged(self.model) if alone else nullcontext():
            loss = once().detach()
        self._step.losses.append(loss)
        self.summary = self.summary.passed()
        return loss

    def _finish(self) -> None:
        """Finish a step whose micro-batches have all had their first pass, or skip it."""
        if self._step.passes:
            climbed, finite = self._climb()
        else:
            norm, climbed = self.ascent.norm(), self._step.led
            finite = self._is_finite(norm)
            if finite:
                self.reused.add(norm)
        self.summary = self.summary.stepped(climbed=climbed, finite=finite)
        if not finite:
            self._skip()
        self._step = _Step()

    def _climb(self) -> tuple[bool, bool]:
        """Ascend from finite gradients; whether it did, and whether all is finite."""
        self.reused.note(self.model, exchange=self.mode == PER_REPLICA)
        slope = self.ascent.slope()
        if not self._is_finite(slope):
            return True, False
        self._second(slope)
        finite = self._is_finite(self.ascent.norm())
        if finite:
            self.reused.split()
        return True, finite

    def _second(self, slope: float) -> None:
        """Second pass of all micro-batches, at the perturbed weights, with equal random states."""
        random, statistics = RandomState.now(self._devices), self._statistics.copy()
        with self.ascent.climbed(slope):
            try:
                for number, (once, drawn) in enumerate(self._step.passes, start=1):
                    drawn.put()
                    self._pass(once, alone=number < len(self._step.passes))
            finally:
                random.put()
                self._statistics.put(statistics)

    def _is_finite(self, norm: float) -> bool:
        """Whether all losses and the gradient are finite, on all processes."""
        losses = torch.stack(self._step.losses)
        return all_agree(math.isfinite(norm) and bool(losses.isfinite().all()), losses.device)

    def _skip(self) -> None:
        """Skip the step: restore statistics, and drop its gradients."""
        self._statistics.put(self._step.statistics)
        if self.scaler is not None and self.scaler.is_enabled():
            self.ascent.spoil()
        else:
            self.ascent.clear()
        in_a_row = self.summary.skipped_in_a_row
        told = f"step {self.summary.steps} was skipped: its loss or gradient is not finite"
        if rank() == 0:
            logger.warning("%s (%d in a row)", told, in_a_row)
        if in_a_row >= self.settings.most_skipped:
            raise NonFiniteError(
                f"{told}, the last of {in_a_row} in a row",
                remedy="a smaller learning rate or rho; look for NaN in the data",
            )


@dataclass
class _Step:
    """State of the current step.

    Attributes:
        passes: What is run again uphill, with the random state in which it began.
        losses: Of all passes: () each.
        statistics: Running ones before the step.
        led: Whether the passes were made where momentum leads.
    """

    passes: list[tuple[Pass, RandomState]] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    statistics: list[Tensor] = field(default_factory=list)
    led: bool = False
