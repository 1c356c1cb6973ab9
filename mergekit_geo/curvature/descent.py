"""Perturbed gradient descent (Jin 2017, algorithms 1 and 2), and SGD beside it.

The gradient is that of all examples of the sample. Where its norm is at most g, and none was added
in the last t_thres steps, a perturbation drawn uniformly from a ball of radius r is added; if the
loss has not fallen by f when t_thres steps have passed, it is taken back and the descent is over.
How g, r, f and the step follow from measured numbers is told by `EscapeConfig`. What a step needs
of those before is in `DescentState`, so that an interrupted descent goes on to the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from mergekit_geo.config.escape import PERTURBED, EscapeConfig
from mergekit_geo.curvature.critical import rounding_of
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.batches import Shuffled
from mergekit_geo.modules.vectors import norm
from mergekit_geo.records.escape import DescentEntry

PRIME = 1_000_003
"""Multiplier that separates the random numbers of seeds from those of steps."""
HALVINGS = 60
"""Most of one step's length."""
SHOWN = 100
"""About so many steps are told."""


@dataclass
class DescentState:
    """All that the next step needs.

    Attributes:
        rate: η, the length of a step in gradients.
        done: Steps that were made.
        noted: Step of the last perturbation; None without one.
        anchor: (n,) weights before it.
        anchor_loss: Loss there.
        perturbed: Steps of all perturbations.
        history: Step, loss and norm of its gradient.
        stopped: Why it is over; empty while it is not.
    """

    rate: float
    done: int = 0
    noted: int | None = None
    anchor: Tensor | None = None
    anchor_loss: float = 0.0
    perturbed: list[int] = field(default_factory=list)
    history: list[tuple[int, float, float]] = field(default_factory=list)
    stopped: Literal["", "steps", "time-out"] = ""

    def notes(self) -> dict[str, Any]:
        """All but the weights, as a JSON value."""
        return {name: value for name, value in vars(self).items() if name != "anchor"}


@dataclass(frozen=True)
class Constants:
    """What the descent goes by.

    Attributes:
        rate: η of the first step.
        fall: f.
        radius: r.
        gradient: g, where it was given.
    """

    rate: float
    fall: float
    radius: float
    gradient: float | None = None

    @classmethod
    def of(cls, settings: EscapeConfig, curvature: float, fall: float) -> Constants:
        """Constants that follow from ℓ and f.

        Args:
            settings: Those that were given.
            curvature: ℓ, above 0.
            fall: f.

        Example:
            >>> found = Constants.of(EscapeConfig(), 4.0, 0.02)
            >>> found.rate, round(found.small(found.rate), 3), round(found.radius, 3)
            (0.25, 0.4, 0.1)
        """
        share = 1.0 if settings.then == PERTURBED else 0.1
        rate = settings.learning_rate or share / curvature
        radius = settings.radius or math.sqrt(2 * fall / curvature)
        return cls(rate, fall, radius, settings.gradient_threshold)

    def small(self, rate: float) -> float:
        """g, the norm up to which a gradient is small."""
        return math.sqrt(2 * self.fall / rate) if self.gradient is None else self.gradient


class Descent:
    """A descent under way; the module stands where it has come.

    Args:
        loss: L, of the sample.
        settings: How many steps.
        constants: What they go by.
        state: Of the steps before.
        seed: Of perturbations.
        batches: Training data in its order, for SGD; None for perturbed descent.
    """

    def __init__(
        self,
        loss: MeanLoss,
        settings: EscapeConfig,
        constants: Constants,
        state: DescentState,
        seed: int,
        batches: Shuffled | None = None,
    ) -> None:
        self.loss, self.settings, self.constants = loss, settings, constants
        self.state, self.seed, self.batches = state, seed, batches
        self._told = max(1, settings.steps // SHOWN)

    def run(self, save: Callable[[], None], advance: Callable[[], None] = lambda: None) -> None:
        """Descend until the steps are used up, or a perturbation has failed.

        Args:
            save: Called every so many steps, with the module where it stands.
            advance: Called after every step.

        Raises:
            DataError: The loss is not a number.
        """
        step = self._plain if self.batches is not None else self._perturbed
        while not self.state.stopped:
            if self.state.done == self.settings.steps:
                self._finish()
                break
            step()
            advance()
            if self.state.done % self.settings.every == 0:
                save()

    def entry(self) -> DescentEntry:
        """What happened, for the report."""
        state, plain = self.state, self.batches is not None
        return DescentEntry(
            method="sgd" if plain else "perturbed",
            steps=state.done,
            learning_rate=self.constants.rate,
            last_learning_rate=state.rate,
            radius=None if plain else self.constants.radius,
            timeout=self.settings.timeout,
            fall=self.constants.fall,
            perturbed=state.perturbed,
            history=state.history,
            stopped=state.stopped or "steps",
        )

    def _finish(self) -> None:
        """The last loss is told; a perturbation that has not paid yet is taken back."""
        loss, gradient = self.loss.gradient()
        if self._has_failed(loss):
            self._take_back()
            loss, gradient = self.loss.gradient()
        self._tell(loss, gradient, last=True)
        self.state.stopped = "steps"

    def _has_failed(self, loss: float) -> bool:
        """Whether the loss has not fallen since the last perturbation."""
        state = self.state
        return state.noted is not None and loss > state.anchor_loss - self.constants.fall

    def _take_back(self) -> None:
        assert self.state.anchor is not None
        self.loss.weights.put(self.state.anchor)

    def _perturbed(self) -> None:
        """A step of perturbed gradient descent."""
        state = self.state
        loss, gradient = self.loss.gradient()
        since = math.inf if state.noted is None else state.done - state.noted
        if since == self.settings.timeout and self._has_failed(loss):
            self._take_back()
            state.stopped = "time-out"
            self._tell(*self.loss.gradient(), last=True)
            return
        if norm(gradient) <= self.constants.small(state.rate) and since > self.settings.timeout:
            self._tell(loss, gradient, last=True)
            loss, gradient = self._perturb(loss)
        self._tell(loss, gradient)
        self._descend(loss, gradient)
        state.done += 1

    def _perturb(self, loss: float) -> tuple[float, Tensor]:
        """Add noise from a ball (Jin 2017, algorithm 2, line 4); loss and gradient there."""
        state, weights = self.state, self.loss.weights
        state.anchor, state.anchor_loss, state.noted = weights.vector(), loss, state.done
        state.perturbed.append(state.done)
        seed = self.seed * PRIME + state.done
        noise = in_ball(weights.size, self.constants.radius, weights.dtype, seed)
        weights.put(state.anchor + noise)
        return self.loss.gradient()

    def _descend(self, loss: float, gradient: Tensor) -> None:
        """A gradient step, halved until the loss does not rise beyond rounding."""
        state, home = self.state, self.loss.weights.vector()
        most = loss + rounding_of(loss, home.dtype)
        for _ in range(HALVINGS):
            self.loss.weights.put(torch.add(home, gradient, alpha=-state.rate))
            if self.loss.value() <= most:
                return
            state.rate /= 2
        self.loss.weights.put(home)

    def _plain(self) -> None:
        """A step of SGD on one batch."""
        assert self.batches is not None
        state, weights = self.state, self.loss.weights
        if state.done % self._told == 0:
            self._tell(*self.loss.gradient())
        losses, counts = self.batches.at(state.done)(self.loss.model)
        total = losses.to(weights.dtype) @ counts.to(weights.dtype)
        if not math.isfinite(float(total.detach())):
            raise DataError(
                f"the training loss is not a number at step {state.done + 1}",
                remedy="a smaller --lr",
            )
        gradient = weights.zeros()
        self.loss.add(gradient, self.loss.differentiate(total / counts.sum()))
        weights.put(torch.add(weights.vector(), gradient, alpha=-state.rate))
        state.done += 1

    def _tell(self, loss: float, gradient: Tensor, *, last: bool = False) -> None:
        state = self.state
        if last or state.done % self._told == 0:
            state.history.append((state.done, loss, norm(gradient)))


def in_ball(size: int, radius: float, dtype: torch.dtype, seed: int) -> Tensor:
    """A point drawn uniformly from a ball around 0: (n,).

    Args:
        size: n.
        radius: Of the ball.
        dtype: float32 or float64.
        seed: Of a generator of its own.

    Example:
        >>> points = torch.stack([in_ball(2, 3.0, torch.float64, seed) for seed in range(400)])
        >>> float(points.norm(dim=1).max()) < 3, round(float(points.norm(dim=1).mean()), 1)
        (True, 2.0)
    """
    draw = torch.Generator().manual_seed(seed)
    vector = torch.randn(size, dtype=dtype, generator=draw)
    length = radius * float(torch.rand((), dtype=torch.float64, generator=draw)) ** (1 / size)
    return vector.mul_(length / norm(vector))
