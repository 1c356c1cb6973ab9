"""The top of a path is found with few evaluations, wherever it is."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from mergekit_geo.connectivity.profile import MOST, POINTS, Profile, trace
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.split import Split
from mergekit_geo.tasks.losses import Losses

Curve = Callable[[float], float]
GRID = np.linspace(0, 1, 101)

SHAPES: dict[str, Curve] = {
    "gauss": lambda x: float(np.exp(-4 * np.log(2) * x**2)),
    "sech": lambda x: float(np.cosh(1.763 * x) ** -2),
    "lorentz": lambda x: 1 / (1 + 4 * x**2),
    "cosine": lambda x: float(np.cos(np.pi * x / 2) ** 2) if abs(x) < 1 else 0.0,
    "flat": lambda x: float(np.exp(-np.log(2) * (2 * x) ** 4)),
    "leaning": lambda x: float(np.exp(-4 * np.log(2) * (x * (1.5 if x > 0 else 0.6)) ** 2)),
}
"""Full width at half of the height is one, or nearly."""


@dataclass
class Path:
    """Two examples, one a half; counts what is measured."""

    curve: Curve
    reported: Curve | None = None
    asked: list[float] = field(default_factory=list)

    def __call__(self, t: float) -> Losses:
        self.asked.append(t)
        loss = [self.curve(t), (self.reported or self.curve)(t)]
        return Losses(np.array(loss), np.ones(2), np.arange(2))


SPLIT = Split(np.array([0]), np.array([1]))


def top(profile: Profile) -> float:
    return float(np.nanmax(profile.excess))


def naive_top(curve: Curve) -> float:
    loss = np.array([curve(t) for t in GRID])
    return float((loss - ((1 - GRID) * loss[0] + GRID * loss[-1])).max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("width", [0.1, 0.17, 0.3, 0.6, 1.0])
@pytest.mark.parametrize(("level", "slope", "height"), [(0, 0, 1), (3, 0.7, 0.01), (2, -5, 100)])
def test_top_is_that_of_a_fine_grid(
    shape: str, width: float, level: float, slope: float, height: float
) -> None:
    for place in np.arange(0.1, 0.91, 0.0333):

        def curve(t: float, place: float = place) -> float:
            return level + slope * t + height * SHAPES[shape]((t - place) / width)

        path = Path(curve)
        found = top(trace(path, SPLIT))
        assert found >= 0.98 * naive_top(curve), place
        assert len(path.asked) <= MOST


def test_wide_bump_in_the_middle_costs_no_more_than_the_grid() -> None:
    path = Path(lambda t: 3 + t + np.sin(np.pi * t))
    assert top(trace(path, SPLIT)) == pytest.approx(1)
    assert path.asked == [i / 10 for i in range(POINTS)]


@pytest.mark.parametrize("curve", [lambda t: 3 - t * (1 - t), lambda t: 3 + 2 * t, lambda t: 3.0])
def test_path_without_a_bump_is_not_refined(curve: Curve) -> None:
    path = Path(curve)
    trace(path, SPLIT)
    assert len(path.asked) == POINTS


def test_top_is_searched_on_the_selection_half() -> None:
    """The report half has a higher top elsewhere, which is not looked for."""
    path = Path(lambda t: SHAPES["gauss"]((t - 0.25) / 0.1), lambda t: 9 * SHAPES["gauss"](t - 0.7))
    assert {t for t in path.asked if t > 0.5} <= {i / 10 for i in range(POINTS)}
    profile = trace(path, SPLIT)
    assert profile.t[profile.excess.argmax()] == pytest.approx(0.25, abs=0.01)


def curve_with_a_gap(t: float) -> float:
    return float("nan") if 0.55 < t < 0.65 else SHAPES["gauss"]((t - 0.43) / 0.1)


@pytest.mark.parametrize("curve", [lambda t: SHAPES["leaning"]((t - 0.43) / 0.1), curve_with_a_gap])
def test_interrupted_search_goes_on_where_it_was(curve: Curve) -> None:
    whole = Path(curve)
    expected = trace(whole, SPLIT)
    assert len(whole.asked) > POINTS + 1
    for done in range(len(whole.asked)):
        known = {t: Path(curve)(t) for t in whole.asked[:done]}
        rest = Path(curve)
        found = trace(lambda t, known=known, rest=rest: known.get(t) or rest(t), SPLIT)
        assert rest.asked == whole.asked[done:]
        assert list(found.measured) == list(expected.measured) == sorted(whole.asked)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_points_that_are_not_finite_are_kept_and_left_out(value: float) -> None:
    def curve(t: float) -> float:
        return value if 0.35 < t < 0.45 else SHAPES["gauss"]((t - 0.6) / 0.2)

    profile = trace(Path(curve), SPLIT)
    assert profile.not_finite == (0.4,)
    assert top(profile) == pytest.approx(naive_top(lambda t: SHAPES["gauss"]((t - 0.6) / 0.2)))


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_an_end_that_is_not_finite_leaves_no_excess(end: float) -> None:
    path = Path(lambda t: float("inf") if t == end else t * (1 - t))
    profile = trace(path, SPLIT)
    assert profile.not_finite == (end,)
    assert np.isnan(profile.excess).all()
    assert len(path.asked) == POINTS


def test_an_example_of_the_report_half_counts_as_well() -> None:
    path = Path(lambda t: t * (1 - t), lambda t: float("nan") if t == 0.5 else 0.0)
    assert trace(path, SPLIT).not_finite == (0.5,)


def test_most_is_never_exceeded() -> None:
    path = Path(lambda t: SHAPES["leaning"]((t - 0.43) / 0.1))
    trace(path, SPLIT, points=5, most=7)
    assert len(path.asked) == 7


def test_numbers_of_points_are_checked() -> None:
    with pytest.raises(ArgumentError, match=r"points must be at least 3: .* found 2"):
        trace(Path(lambda t: t), SPLIT, points=2)
    with pytest.raises(ArgumentError, match=r"at most 10 evaluations do not hold the grid's 11"):
        trace(Path(lambda t: t), SPLIT, most=10)
