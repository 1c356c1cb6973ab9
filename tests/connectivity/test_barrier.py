"""Barriers against their definitions, and what is said of them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mergekit_geo.connectivity.barrier import PathHeights, path_heights
from mergekit_geo.connectivity.profile import Profile, trace
from mergekit_geo.evaluation.split import Split
from mergekit_geo.tasks.losses import Floats, Indices, Losses

Curve = Callable[[float], Floats]
COUNT = 40
CHOOSE, REPORT = np.arange(0, COUNT, 2), np.arange(1, COUNT, 2)
T = np.linspace(0, 1, 11)


SPLIT = Split(CHOOSE, REPORT)


def weights(count: int = COUNT) -> Floats:
    return np.random.default_rng(5).uniform(10, 100, size=count)


def profile_of(loss_pn: Floats, score_pn: Floats | None = None) -> Profile:
    """One document an example, on the even grid."""
    measured = {
        float(t): Losses(
            loss,
            weights(len(loss)),
            np.arange(len(loss)),
            None if score_pn is None else score_pn[i],
        )
        for i, (t, loss) in enumerate(zip(T, loss_pn, strict=True))
    }
    return Profile(measured, SPLIT)


def noise(seed: int, scale: float = 0.1) -> Floats:
    return np.random.default_rng(seed).normal(0, scale, size=COUNT)


def walked(curve: Curve) -> PathHeights:
    return path_heights(
        trace(lambda t: Losses(curve(t), weights(), np.arange(COUNT)), SPLIT, points=11)
    )


def mean(values: Floats, rows: Indices) -> float:
    total = sum(weights()[i] for i in rows)
    return float(sum(weights()[i] * values[i] for i in rows) / total)


@pytest.mark.parametrize("seed", range(5))
def test_heights_are_those_of_the_definitions(seed: int) -> None:
    """Chosen on one half, reported on the other, point by point and example by example."""
    loss_pn = np.random.default_rng(seed).uniform(1, 5, size=(11, COUNT))
    found = path_heights(profile_of(loss_pn)).loss
    first, last = loss_pn[0], loss_pn[-1]
    chord = [(1 - t) * first + t * last for t in T]
    inner = range(1, 10)

    def above(i: int, rows: Indices) -> float:
        return mean(loss_pn[i] - chord[i], rows)

    top = max(inner, key=lambda i: above(i, CHOOSE))
    assert found.barrier.t == T[top]
    assert found.barrier.estimate.value == pytest.approx(above(top, REPORT))
    low = min(inner, key=lambda i: above(i, CHOOSE))
    assert found.dip.t == T[low]
    assert found.dip.estimate.value == pytest.approx(above(low, REPORT))
    high = max(range(11), key=lambda i: mean(loss_pn[i], CHOOSE))
    assert found.path_max.t == found.barrier_mean.t == T[high]
    assert found.path_max.estimate.value == pytest.approx(mean(loss_pn[high], REPORT))
    middle = (mean(first, REPORT) + mean(last, REPORT)) / 2
    expected = mean(loss_pn[high], REPORT) - middle
    assert found.barrier_mean.estimate.value == pytest.approx(expected)
    means = [mean(loss, REPORT) for loss in loss_pn]
    assert found.path_mean.value == pytest.approx(np.diff(T) @ (np.add(means[1:], means[:-1]) / 2))
    assert [end.value for end in found.ends] == pytest.approx([means[0], means[-1]])


def test_error_is_what_the_score_leaves() -> None:
    score = np.linspace(0.9, 0.8, 11)[:, None] - np.outer(T * (1 - T), 1 + noise(1))
    found = path_heights(profile_of(np.ones((11, COUNT)), score))
    assert found.error is not None
    assert found.error.barrier.t == 0.5
    assert found.error.barrier.estimate.value == pytest.approx(0.25, abs=0.02)
    assert found.error.ends[0].value == pytest.approx(0.1)
    assert found.loss.barrier.estimate.value == 0
    assert path_heights(profile_of(np.ones((11, COUNT)))).error is None


def test_error_counts_as_the_score_does() -> None:
    draw = np.random.default_rng(3).uniform(size=COUNT)
    whole = profile_of(np.ones((11, COUNT)), np.tile(draw, (11, 1)))
    one = np.ones(COUNT)
    alike = Profile({t: replace(x, score_weight=one) for t, x in whole.measured.items()}, SPLIT)
    found = path_heights(alike).error
    assert found is not None
    assert found.ends[0].value == pytest.approx(1 - draw[REPORT].mean())


def test_barrier_in_words() -> None:
    found = walked(lambda t: 3 + t + 4 * t * (1 - t) * (1.98 + noise(2)))
    assert found.height == pytest.approx(1.98, abs=0.1)
    assert found.sentence().startswith("a barrier of ")
    assert found.sentence().endswith(" at t = 0.50")
    assert " nats [" in found.sentence()
    assert " squared error [" in found.sentence("squared error")


def test_digits_are_those_of_the_interval() -> None:
    wide = walked(lambda t: 4 * t * (1 - t) * (200 + noise(2, 30)))
    narrow = walked(lambda t: 4 * t * (1 - t) * (0.02 + noise(2, 0.001)))
    assert "." not in wide.sentence().split(" nats")[0]
    assert "0.0" in narrow.sentence()
    assert len(narrow.sentence().split()[3]) >= len("0.0200")


def test_dip_is_no_barrier() -> None:
    found = walked(lambda t: 3 + t - 4 * t * (1 - t) * (0.05 + noise(3, 0.01)))
    assert found.height == 0
    assert found.sentence().startswith("no barrier: the path dips 0.0")
    assert found.sentence().endswith("below its ends at t = 0.50")


def test_noise_is_no_barrier() -> None:
    found = walked(lambda t: 3 + 4 * t * (1 - t) * noise(4))
    assert found.height == 0
    least = found.loss.barrier.estimate.detectable
    assert found.sentence() == (
        f"no significant barrier: one of {least:.2g} nats (1.1 % of the loss) would be detected"
    )


def test_noise_above_the_size_that_matters_tells_nothing() -> None:
    found = walked(lambda t: 3 + 4 * t * (1 - t) * noise(4, 1.0))
    assert not found.loss.barrier.estimate.is_significant
    assert found.loss.barrier.estimate.detectable > found.loss.limit == pytest.approx(0.06)
    assert found.sentence().startswith("cannot tell whether there is a barrier: only one of 0.")
    assert found.sentence().endswith("% of the loss) or more would be detected")


@pytest.mark.parametrize(("height", "kind"), [(0.05, "a negligible barrier"), (0.07, "a barrier")])
def test_words_follow_the_size(height: float, kind: str) -> None:
    """The ends' loss is 3, of which 2 % matter."""
    found = walked(lambda t: 3 + 4 * t * (1 - t) * (height + noise(5, 0.001)))
    assert found.loss.barrier.estimate.is_significant
    assert found.sentence().startswith(f"{kind} of {height - 0.001:.3f}"[:-1])
    assert f"], {100 * height / 3:.2g} % of the loss, at t" in found.sentence()


def test_same_model_at_both_ends_has_exactly_none() -> None:
    same = np.random.default_rng(0).uniform(1, 5, size=COUNT)
    found = walked(lambda t: same)
    estimate = found.loss.barrier.estimate
    assert (estimate.value, estimate.low, estimate.high, found.height) == (0, 0, 0, 0)
    assert found.loss.path_mean.value == pytest.approx(mean(same, REPORT))


def test_reversed_path_has_the_same_heights() -> None:
    loss_pn = np.random.default_rng(8).uniform(1, 5, size=(11, COUNT))
    there, back = (
        path_heights(profile_of(loss_pn)).loss,
        path_heights(profile_of(loss_pn[::-1])).loss,
    )
    for name in ("barrier", "barrier_mean", "dip", "path_max"):
        one, other = getattr(there, name), getattr(back, name)
        assert one.t == pytest.approx(1 - other.t)
        assert one.estimate.low == pytest.approx(other.estimate.low)
    assert there.ends == back.ends[::-1]


def test_gaps_are_reported_and_left_out() -> None:
    loss_pn = 3 + np.outer(4 * T * (1 - T), 2 + noise(6))
    loss_pn[5, 1], loss_pn[2, 0] = np.nan, np.inf
    found = path_heights(profile_of(loss_pn))
    assert found.not_finite == (0.2, 0.5)
    assert found.loss.barrier.t in (0.4, 0.6)
    assert found.sentence().endswith("; the loss is not finite at t = 0.2, 0.5")
    assert found.loss.path_mean.value == pytest.approx(3 + 2 * 2 / 3, abs=0.1)


@pytest.mark.parametrize("gap", [slice(1, 10), slice(0, 1)])
def test_nothing_can_be_said_without_an_end_or_a_middle(gap: slice) -> None:
    loss_pn = np.full((11, COUNT), 3.0)
    loss_pn[gap] = np.nan
    found = path_heights(profile_of(loss_pn))
    assert np.isnan(found.height)
    assert found.sentence().startswith("no barrier can be given; the loss is not finite at t = 0")


def test_too_few_documents_tell_nothing() -> None:
    measured = {
        float(t): Losses(3 + 4 * t * (1 - t) * np.arange(1.0, 9), np.ones(8), np.arange(8))
        for t in T
    }
    found = path_heights(Profile(measured, Split(np.arange(4), np.arange(4, 8))))
    assert found.sentence() == "too few documents to tell whether there is a barrier"
    assert np.isnan(found.height)


def test_no_barrier_is_claimed_where_there_is_none() -> None:
    """The interval of the maximum itself would claim one nearly always."""
    draw = np.random.default_rng(9)
    claims = 0
    for _ in range(300):
        waves = draw.normal(0, 1, size=(9, COUNT))
        loss_pn = np.sin(np.pi * np.outer(T, np.arange(1, 10))) @ waves
        claims += path_heights(profile_of(loss_pn)).height > 0
    assert claims <= 0.05 * 300
