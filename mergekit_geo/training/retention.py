"""Which checkpoints of a training are kept, and when they are taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergekit_geo.errors import ArgumentError
from mergekit_geo.training.member_store import WHICH, MemberStore

LEAST = 2
TIMES = ("save", "epoch")
NEVER = "no"


@dataclass(frozen=True)
class Retention:
    """Which checkpoints of a training are kept.

    Attributes:
        keep: How many.
        which: The `last`, or the `best` of its evaluations.
        every: When the last are taken: at every `save` (if None, too), every `epoch`, or every so
            many steps.

    Raises:
        ArgumentError: An invalid setting.

    Example:
        >>> Retention(3, every=50).is_step(100), Retention(3, which="best").when
        (True, 'evaluation')
    """

    keep: int
    which: str = "last"
    every: int | str | None = None

    def __post_init__(self) -> None:
        if self.keep < LEAST:
            raise ArgumentError(
                f"keep must be at least {LEAST}, found {self.keep}: a soup of one is that model"
            )
        if self.which not in WHICH:
            raise ArgumentError(f"which {self.which!r}: expected one of {', '.join(WHICH)}")
        if self.which == "best" and self.every is not None:
            raise ArgumentError(
                "the best are taken at the Trainer's evaluations", remedy="leave every= out"
            )
        if isinstance(self.every, int) and self.every < 1:
            raise ArgumentError(f"every must be at least 1 step, found {self.every}")
        if isinstance(self.every, str) and self.every not in TIMES:
            raise ArgumentError(
                f"every {self.every!r}: expected one of {', '.join(TIMES)}, or a number of steps"
            )

    @property
    def when(self) -> int | str:
        """When members are taken: every `evaluation`, `save` or `epoch`, or a number of steps."""
        return "evaluation" if self.which == "best" else self.every or "save"

    def is_step(self, step: int) -> bool:
        """Whether a member is taken after a step for its number."""
        return isinstance(self.when, int) and step % self.when == 0

    def members(self, folder: Path, args: Any, *, fsync: bool) -> MemberStore:
        """The store of members for a training with these arguments.

        Args:
            folder: Of the members.
            args: TrainingArguments.
            fsync: Flush each to the disk.

        Raises:
            ArgumentError: Nothing would ever be taken.
        """
        if self.when == "evaluation" and _is_never(args.eval_strategy):
            raise ArgumentError(
                "the best are taken at the Trainer's evaluations, and it makes none",
                remedy="eval_strategy='steps' or 'epoch'; or which='last'",
            )
        if self.when == "save" and _is_never(args.save_strategy):
            raise ArgumentError(
                "members are taken at the Trainer's saves, and it makes none",
                remedy="every='epoch' or a number of steps; or save_strategy='steps' or 'epoch'",
            )
        metric = metric_of(args) if self.which == "best" else None
        greater = bool(metric and args.metric_for_best_model and args.greater_is_better)
        return MemberStore(folder, self.keep, self.which, metric, greater, fsync)


def metric_of(args: Any) -> str:
    """Name of the metric that the best checkpoints are chosen by, as evaluations report it."""
    name = args.metric_for_best_model or "loss"
    return name if name.startswith("eval_") else f"eval_{name}"


class Scores:
    """Scores of evaluations; of several data sets, one has the metric.

    Args:
        metric: Name of it.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self._step, self._others = 0, frozenset[str]()

    def of(self, step: int, metrics: Mapping[str, Any]) -> float | None:
        """The score of a step; None where this evaluation does not give it."""
        if self.metric in metrics:
            self._step, self._others = step, frozenset()
            return float(metrics[self.metric])
        if self._step != step:
            self._others |= {name for name in metrics if name.startswith("eval_")}
        return None

    def require(self) -> None:
        """Check, after an evaluation on all data sets, that the metric was among the results.

        Raises:
            ArgumentError: None of them gave the metric.
        """
        if self._others:
            raise ArgumentError(
                f"the evaluation gives no {self.metric}, but {', '.join(sorted(self._others))}",
                remedy="name one of these as metric_for_best_model",
            )


def _is_never(strategy: Any) -> bool:
    return str(getattr(strategy, "value", strategy)) == NEVER
