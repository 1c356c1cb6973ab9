"""How anything is trained: checkpoints, curves between them, and the steps of SAM."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mergekit_geo.config.docstrings import described
from mergekit_geo.config.option import check, option
from mergekit_geo.errors import ArgumentError
from mergekit_geo.extras import require

OPTIMIZERS = ("adamw", "sgd")
PANEL, FITTING = "Training", "Path fitting"


@dataclass(frozen=True, kw_only=True)
class OptimizationConfig:
    """How anything is optimised on training data.

    SGD has momentum 0.9 and Nesterov's rule. Weights stay float32 under autocast.
    """

    optimizer: str = option(
        "adamw", "Optimizer; sgd has Nesterov momentum 0.9.", panel=PANEL, choices=OPTIMIZERS
    )
    learning_rate: float | None = option(
        None, "Peak learning rate.", "--lr", panel=PANEL, unset="by the number of parameters"
    )
    batch_size: int = option(
        32, "Training examples per batch.", "--train-batch-size", panel=PANEL, least=1
    )
    accumulation: int = option(
        1, "Batches per optimizer step.", "--gradient-accumulation", panel=PANEL, least=1
    )
    clip: float = option(1.0, "Maximum norm of the gradient; 0 turns clipping off.", "")
    bf16: bool = option(False, "Train under bfloat16 autocast.", panel=PANEL)
    gradient_checkpointing: bool = option(
        False, "Recompute activations in the backward pass: less memory, more time.", panel=PANEL
    )

    def __post_init__(self) -> None:
        check(self)


LARGEST_RATE = 1e-3
SGD_FACTOR, LORA_FACTOR = 30, 10
"""How much higher a rate SGD, and adapters, take than AdamW on all weights."""


@described
@dataclass(frozen=True)
class TrainingConfig(OptimizationConfig):
    """How a checkpoint is fine-tuned; how SAM steps is said by `SamArguments`.

    The learning rate is by default 0.5 / sqrt(parameters of the model), at most 1e-3, for AdamW
    (5e-5 for 1e8 of them), 30 times as much for SGD, and 10
    times as much for LoRA (Hu 2021), which has adapters on every linear layer but the head. After
    its warm-up it falls to 0 as a cosine.

    Example:
        >>> TrainingConfig(batch_size=8, accumulation=2).steps_of(batches=10, processes=1)
        5
    """

    epochs: float | None = option(
        None, "Passes through the training data.", panel=PANEL, unset="1, unless --steps is given"
    )
    steps: int | None = option(
        None, "Optimizer steps, instead of --epochs.", panel=PANEL, least=1, unset="by --epochs"
    )
    warmup: float = option(
        0.05, "Share of the steps in which the learning rate rises to its peak.", panel=PANEL
    )
    weight_decay: float = option(0.01, "Weight decay; biases and norms have none.", panel=PANEL)
    lora_rank: int | None = option(
        None, "Train LoRA adapters of this rank (with peft), and merge them into the output.",
        panel=PANEL, least=1, unset="all weights are trained",
    )  # fmt: skip
    save_every: int | None = option(
        None, "Steps between saved states, which --resume continues from.", panel=PANEL, least=1,
        unset="a tenth of the steps",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.epochs is not None and self.steps is not None:
            raise ArgumentError("epochs and steps are both given", remedy="give one of them")
        for name in ("weight_decay", "clip", "warmup"):
            _at_least(name, getattr(self, name), 0)
        for name in ("epochs", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ArgumentError(f"{_spoken(name)} must be a number above 0, found {value:g}")
        if self.warmup > 1:
            raise ArgumentError(f"warmup is a share of the steps, found {self.warmup:g}")
        if self.lora_rank is not None:
            require("peft", "LoRA")
        super().__post_init__()

    def rate(self, parameters: int) -> float:
        """The learning rate at its highest, for a model of so many parameters."""
        if self.learning_rate is not None:
            return self.learning_rate
        factor = (1 if self.optimizer == "adamw" else SGD_FACTOR) * (
            LORA_FACTOR if self.lora_rank else 1
        )
        return min(LARGEST_RATE, 0.5 / math.sqrt(parameters)) * factor

    def steps_of(self, batches: int, processes: int) -> int:
        """Steps of the optimizer.

        Args:
            batches: In once through the training data.
            processes: That share them.
        """
        if self.steps is not None:
            return self.steps
        return math.ceil((self.epochs or 1.0) * batches / (self.accumulation * processes))


def _at_least(name: str, value: float | None, least: int) -> None:
    if value is not None and not least <= value < math.inf:
        raise ArgumentError(f"{_spoken(name)} must be at least {least}, found {value:g}")


def _spoken(name: str) -> str:
    return name.replace("_", "-")


FITTED = ("bezier", "polygon", "neb")
"""Kinds of path that are fitted."""

NEB_BENDS, NEB_STEPS = 3, 200
"""Default number of bends that a chain starts with, and of steps of all its cycles."""


@described
@dataclass(frozen=True)
class CurveFitConfig(OptimizationConfig):
    """How a curve is fitted.

    The corners of `neb` (AutoNEB) are pulled down across the path, and it gets more where they are
    needed; its steps, 200 by default, have a gradient at every corner each. The learning rate is by
    default 3 / sqrt(parameters), at most 3e-3, for AdamW: what fine-tuned transformers of 1e6 to
    1e10 parameters take; 30 times as much for SGD. All
    batches of a step are at one t.

    Example:
        >>> CurveFitConfig(bends=2, steps=200).corners, CurveFitConfig(kind="neb").corners
        (2, 3)
    """

    kind: str = option(
        "bezier", "Shape of the path: a Bezier curve, a polygonal chain, or a nudged elastic band "
        "(AutoNEB).", panel=FITTING, choices=FITTED,
    )  # fmt: skip
    bends: int | None = option(
        None, "Control points between the ends; neb adds more where they are needed.",
        panel=FITTING, least=1, unset="1; 3 for neb",
    )  # fmt: skip
    steps: int | None = option(
        None, "Optimizer steps.", panel=FITTING, least=0,
        unset="until the highest held-out loss on the path stops falling; 200 for neb",
    )  # fmt: skip
    restarts: int = option(
        1, "Fits from different seeds, of which the best is kept.", panel=FITTING, least=1
    )

    @property
    def corners(self) -> int:
        """Bends to begin with."""
        return self.bends or (NEB_BENDS if self.kind == "neb" else 1)

    @property
    def length(self) -> int:
        """Steps of all cycles of a chain."""
        return NEB_STEPS if self.steps is None else self.steps

    def rate(self, parameters: int) -> float:
        """The learning rate at its highest."""
        if self.learning_rate is not None:
            return self.learning_rate
        found = min(3e-3, 3 / math.sqrt(parameters))
        return found if self.optimizer == "adamw" else 30 * found


SAM = "SAM"
AUTO, PER_REPLICA, SYNCHRONISED = "auto", "per-replica", "synchronised"
ASCENTS = (AUTO, PER_REPLICA, SYNCHRONISED)
CLIMBING, MOMENTUM, LOOK = "sam", "momentum", "look"
VARIANTS = (CLIMBING, MOMENTUM, LOOK)


@described
@dataclass(frozen=True)
class SamArguments:
    """How SAM steps; stands next to TrainingArguments, in HfArgumentParser too.

    A parameter group of the optimizer may have a radius of its own, under the key `rho`. Adaptive
    SAM (Kwon 2021) adds `eta` to |w|, so that a weight of zero moves too. By an ascent
    `per-replica` each process climbs by its own gradient, `synchronised` all by the mean; `auto` is
    per replica, unless the weights are sharded (FSDP2).

    The variant `momentum` (Becker 2024) makes one pass a step, at w - rho m / ||m|| with the
    optimizer's momentum m; it takes a larger rho. `look` (Liu 2022) makes two at every n-th step,
    and adds the part of SAM's gradient orthogonal to the plain one to the gradients in between.

    Example:
        >>> SamArguments(rho=0.1).every
        1
        >>> SamArguments(variant="look")
        Traceback (most recent call last):
        mergekit_geo.errors.ArgumentError: variant look: with every=1 no step is in between to use \
again what a climb found (every=5)
    """

    rho: float = option(
        0.05, "Radius of the ascent step of SAM: a distance in weight space. 0 trains without SAM.",
        panel=SAM,
    )  # fmt: skip
    adaptive: bool = option(
        False, "Scale the ascent step by the weights (ASAM); --rho is then 0.5 to 2.", panel=SAM
    )
    eta: float = option(0.01, "Added to the size of the weights in ASAM.", "")
    every: int = option(1, "Take the ascent step at every n-th step only.", panel=SAM, least=1)
    variant: str = option(
        CLIMBING, "Two passes a step (sam); one, along the optimizer's momentum (momentum); or two "
        "at every n-th step, and its orthogonal part used again in between (look).",
        "--sam-variant", panel=SAM, choices=VARIANTS,
    )  # fmt: skip
    alpha: float = option(
        0.7, "Weight in look of the part that is used again, in units of the gradient.",
        "--sam-alpha", panel=SAM,
    )  # fmt: skip
    ascent: str = option(
        AUTO, "Gradient that the ascent follows with several processes: that of each "
        "(per-replica), or the mean (synchronised). auto is per-replica unless weights are "
        "sharded.", panel=SAM, choices=ASCENTS,
    )  # fmt: skip
    most_skipped: int = option(
        10, "Stop after this many steps in a row without a finite loss and gradient.", "", least=1
    )

    def __post_init__(self) -> None:
        check_radius(self.rho)
        if not 0 <= self.eta < math.inf:
            raise ArgumentError(f"eta: expected a number of at least 0, found {self.eta:g}")
        if not 0 <= self.alpha < math.inf:
            raise ArgumentError(f"sam-alpha: expected a number of at least 0, found {self.alpha:g}")
        check(self)
        if self.variant == LOOK and self.every == 1:
            raise ArgumentError(
                "variant look: with every=1 no step is in between to use again what a climb found",
                remedy="every=5",
            )
        if self.variant == MOMENTUM and self.ascent == PER_REPLICA:
            raise ArgumentError(
                "variant momentum: all processes have the same momentum, so none has an ascent of "
                "its own",
                remedy=f"ascent={SYNCHRONISED!r}, or 'auto'",
            )


def check_radius(rho: float, where: str = "") -> float:
    """Check that a radius is at least 0 and finite, and return it.

    Raises:
        ArgumentError: It is negative, infinite or not a number.
    """
    if not 0 <= rho < math.inf:
        raise ArgumentError(f"rho: expected a number of at least 0, found {rho:g}", where=where)
    return rho
