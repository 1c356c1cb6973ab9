"""How a point is chosen, checked where it is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mergekit_geo.connectivity.config import FITTED
from mergekit_geo.errors import ArgumentError
from mergekit_geo.limits import check_count
from mergekit_geo.merging.groups import GRANULARITIES

METHODS = ("uniform", "weighted", "greedy", "learned")
PICKS = ("best", "midpoint", "mean", "flattest")
PAIR = 2

LOOKS = 5
"""How often a learned soup is measured on the whole selection half during its search."""


@dataclass(frozen=True)
class Choosing:
    """How a point is chosen.

    Attributes:
        method: `uniform` or `weighted` by the weights given; `greedy` or `learned` by loss.
        with_replacement: Greedy adds models again and again while that helps.
        granularity: Learned coefficients are shared by the `model`, a `layer` or a `tensor`.
        steps: Of the learned soup's optimiser.
        along: Take a point of a path between two models: `linear`, `slerp`, a kind that is fitted,
            or the folder of a fitted one. More models join one at a time, best first, each along
            its own path, and stay if the loss gets lower.
        pick: Which one: `best` by loss, `midpoint`, the `mean` of several, or the `flattest` of
            those that are about as good as the best.
        average_points: How many the mean is over, at even distances in t.
        tolerance: Share of the lowest loss that the flattest point may be worse by.
        basin: Leave out models that a barrier parts from the largest basin.
        control: Also train the ends further for as many steps as the path was fitted, and report
            them beside it: True whatever it takes, None within the budget.
    """

    method: str = "uniform"
    with_replacement: bool = False
    granularity: str = "model"
    steps: int = 50
    along: str | None = None
    pick: str | None = None
    average_points: int = 9
    tolerance: float = 0.005
    basin: bool = False
    control: bool | None = None

    def __post_init__(self) -> None:
        _check("method", self.method, METHODS)
        _check("granularity", self.granularity, GRANULARITIES)
        if self.pick is not None:
            _check("pick", self.pick, PICKS)
        if self.along is None and self.pick is not None:
            raise ArgumentError("--pick takes a point of a path", remedy="--along linear or slerp")
        check_count("average_points", self.average_points, PAIR)
        check_count("steps", self.steps)
        if not 0 <= self.tolerance < 1:
            raise ArgumentError(
                f"the tolerance is a share of the lowest loss, found {self.tolerance:g}"
            )
        if self.along is not None and self.method in {"greedy", "learned"}:
            raise ArgumentError(f"--along and --method {self.method} are two ways to choose")
        if self.along is not None and self.basin:
            raise ArgumentError("--basin may leave a model out, and a path needs both")

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


def evaluations(choosing: Choosing, count: int) -> int:
    """About how many measurements choosing takes, for the estimate of the cost."""
    pairs = count * (count - 1) // 2
    found = 3 * pairs + count if choosing.basin else 0
    if choosing.searches(count):
        return found + (count - 1) * (21 if choosing.pick == "flattest" else 12)
    if choosing.method == "greedy":
        return found + (count * count if choosing.with_replacement else 2 * count)
    if choosing.method == "learned":  # the greedy soup, two other starts, looks, and the steps
        return found + 2 * count + 2 + LOOKS + count
    return found


def _check(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ArgumentError(f"{name} {value!r}: expected one of {', '.join(known)}")
