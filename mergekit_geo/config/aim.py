"""How losses on several sets become the one number by which points are compared."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mergekit_geo.config.docstrings import described
from mergekit_geo.config.option import check, option
from mergekit_geo.errors import ArgumentError

WORST = "worst"
AIMS = ("mean", WORST, "weighted")
PARETO = "pareto"
PANEL = "Selection"


@described
@dataclass(frozen=True)
class AimConfig:
    """What is minimised over several sets, and what may not get worse.

    On a set s a point counts by d_s, its loss minus that of the best model there; divided by that
    model's loss where sets count in unlike units. With one set it counts by its loss.

    Example:
        >>> AimConfig("worst", keep=["code"]).is_default
        False
    """

    aim: str = option(
        "mean", "What is minimised over several sets: the mean of the losses, each less that of "
        "the best model there; the worst of these differences; or their mean by the sets' weights.",
        panel=PANEL, choices=AIMS,
    )  # fmt: skip
    keep: Sequence[str] = option(
        (), "Set on which no point is taken that is significantly worse than the best model there. "
        "Can be given several times.", panel=PANEL, metavar="SET", unset="none",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check(self)

    @property
    def is_default(self) -> bool:
        """Whether nothing was asked for that needs a choice by loss."""
        return self.aim == AIMS[0] and not self.keep

    def number_of(self, differences: Sequence[float], weights: Sequence[float]) -> float:
        """One number of the d_s of every set.

        Args:
            differences: One a set.
            weights: Shares of the sets in the mean.
        """
        if self.aim == WORST:
            return max(differences)
        return sum(w * d for w, d in zip(weights, differences, strict=True))

    def require_known(self, names: Collection[str]) -> None:
        """Refuse to keep a set that there is not.

        Raises:
            ArgumentError: It names those that there are.

        Example:
            >>> AimConfig(keep=["prose"]).require_known(["code", "chat"])
            Traceback (most recent call last):
            mergekit_geo.errors.ArgumentError: no set 'prose' to keep (the sets are code, chat)
        """
        for name in self.keep:
            if name not in names:
                raise ArgumentError(
                    f"no set {name!r} to keep", remedy=f"the sets are {', '.join(names)}"
                )


@described
@dataclass(frozen=True)
class SearchAim(AimConfig):
    """What a search minimises over several sets, and what may not get worse.

    Example:
        >>> SearchAim("pareto").is_pareto, SearchAim("pareto").combined
        (True, AimConfig(aim='mean', keep=()))
    """

    aim: str = option(
        "mean", "What is minimised over several sets: the mean of the losses, each less that of "
        "the best model there; the worst of these differences; their mean by the sets' weights; or "
        "all of them side by side, of which the front is shown and --take writes a point.",
        panel=PANEL, choices=(*AIMS, PARETO),
    )  # fmt: skip

    @property
    def is_pareto(self) -> bool:
        """Whether sets are minimised side by side."""
        return self.aim == PARETO

    @property
    def combined(self) -> AimConfig:
        """The aim that gives one number."""
        return AimConfig(AIMS[0] if self.is_pareto else self.aim, self.keep)
