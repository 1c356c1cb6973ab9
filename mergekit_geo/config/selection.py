"""How a point is chosen, checked where it is said."""

from __future__ import annotations

from dataclasses import dataclass

from mergekit_geo.config.docstrings import described
from mergekit_geo.config.option import check, option
from mergekit_geo.config.training import FITTED
from mergekit_geo.errors import ArgumentError

METHODS = ("uniform", "weighted", "greedy", "learned")
GRANULARITIES = ("model", "layer", "tensor")
PICKS = ("best", "midpoint", "mean", "flattest")
PANEL = "Selection"
PAIR = 2

LOOKS = 5
"""How often a learned soup is measured on the whole selection half during its search."""


MOST_PARENTS = 4
"""Most parents of a merge for which barriers between them are measured."""

INNER_POINTS = 3
"""Points between two parents at which the loss is measured."""

SEGMENT_POINTS = 11
"""Points at which the loss is measured on the path that the output is a point of."""


@described
@dataclass(frozen=True)
class SelectionConfig:
    """How a point is chosen.

    More than two models join along a path one at a time, best first, each along its own path, and
    stay if the loss gets lower. The `flattest` point is that of those that are about as good as the
    best. Ends are trained further for as many steps as the path was fitted.

    Raises:
        ArgumentError: Settings that contradict each other, or a word that is not admitted.

    Example:
        >>> SelectionConfig(method="greedy").by_loss(3), SelectionConfig().by_loss(3)
        (True, False)
    """

    method: str = option(
        "uniform", "Weights of the models: equal, as given by --weights, or chosen by the loss on "
        "--data (greedy: which models take part; learned: coefficients, by gradient).",
        panel=PANEL, choices=METHODS,
    )  # fmt: skip
    with_replacement: bool = option(
        False, "Let the greedy soup add a model more than once.", panel=PANEL
    )
    granularity: str = option(
        "model", "What has a coefficient of its own in a learned soup.", panel=PANEL,
        choices=GRANULARITIES,
    )  # fmt: skip
    steps: int = option(50, "Optimizer steps of a learned soup.", panel=PANEL, least=1)
    along: str | None = option(
        None,
        "Take the output from a path between two models: linear, slerp, the DIR of a fitted path "
        "or, with --train-data, a path to fit: bezier, polygon or neb. Further models join one at "
        "a time, best first.", panel=PANEL, metavar="PATH", unset="no path",
    )  # fmt: skip
    pick: str | None = option(
        None, "Point of the path to take.", panel=PANEL, choices=PICKS,
        unset="best, the one of lowest loss",
    )  # fmt: skip
    sweep: int | None = option(
        None,
        "Measure so many even points of the path between two models, in place of a search, take "
        "the best of them, and show the losses of all on every set.", panel=PANEL, least=3,
        metavar="N", unset="a search",
    )  # fmt: skip
    average_points: int = option(
        9, "Points of the path that --pick mean averages.", panel=PANEL, least=PAIR
    )
    tolerance: float = option(
        0.005, "Loss that --pick flattest may give up, as a share of the lowest loss.", panel=PANEL
    )
    control: bool | None = option(
        None,
        "Train the ends of a fitted path for as many steps, and report them beside the output.",
        panel=PANEL, unset="on if --budget allows",
    )  # fmt: skip
    basin: bool = option(
        False, "Merge only the largest basin: the models that no loss barrier separates.",
        panel=PANEL,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check(self)
        if self.along is None and self.pick is not None:
            raise ArgumentError("--pick takes a point of a path", remedy="--along linear or slerp")
        self._check_sweep()
        if not 0 <= self.tolerance < 1:
            raise ArgumentError(
                f"the tolerance is a share of the lowest loss, found {self.tolerance:g}"
            )
        if self.along is not None and self.method in {"greedy", "learned"}:
            raise ArgumentError(f"--along and --method {self.method} are two ways to choose")
        if self.along is not None and self.basin:
            raise ArgumentError("--basin may leave a model out, and a path needs both")

    def _check_sweep(self) -> None:
        if self.sweep is None:
            return
        if self.along is None:
            raise ArgumentError(
                "--sweep measures points of a path",
                remedy="--along linear, or geo-merge merge BASE TUNED --method wise-ft",
            )
        if self.pick not in {None, "best"}:
            raise ArgumentError(
                f"--sweep and --pick {self.pick} are two ways to choose a point",
                remedy="leave one of them out",
            )

    def check_count(self, count: int) -> None:
        """Refuse a sweep between more models than two.

        Args:
            count: Of the models.

        Raises:
            ArgumentError: There are more, or fewer.
        """
        if self.sweep is not None and count != PAIR:
            raise ArgumentError(
                f"--sweep is of the path between two models, found {count}",
                remedy="leave --sweep out: further models join one at a time",
            )

    def by_loss(self, count: int) -> bool:
        """Whether anything is chosen by its loss among so many models."""
        return self.method in {"greedy", "learned"} or self.basin or self.searches(count)

    @property
    def needs_gradients(self) -> bool:
        """Whether models are run backwards to choose, which takes float32."""
        return self.pick == "flattest" or self.along in FITTED

    def searches(self, count: int) -> bool:
        """Whether points of paths are compared, or models that may join."""
        return self.along is not None and (count > PAIR or self.pick in {None, "best", "flattest"})


def evaluations(choosing: SelectionConfig, count: int) -> int:
    """About how many measurements choosing takes, for the estimate of the cost."""
    pairs = count * (count - 1) // 2
    found = 3 * pairs + count if choosing.basin else 0
    if choosing.sweep is not None:
        return found + choosing.sweep
    if choosing.searches(count):
        return found + (count - 1) * (21 if choosing.pick == "flattest" else 12)
    if choosing.method == "greedy":
        return found + (count * count if choosing.with_replacement else 2 * count)
    if choosing.method == "learned":  # the greedy soup, two other starts, looks, and the steps
        return found + 2 * count + 2 + LOOKS + count
    return found


def measurements(parents: int, segments: int) -> int:
    """Number of losses that measuring a merge takes.

    Example:
        >>> measurements(3, 0)
        13
    """
    pairs = parents * (parents - 1) // 2 if parents <= MOST_PARENTS else 0
    return parents + 1 + INNER_POINTS * pairs + SEGMENT_POINTS * segments
