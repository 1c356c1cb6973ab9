"""How often racing stops what it should not, and how much it saves, on made-up losses.

Usage:
    python benchmarks/racing.py   # 2,000 repetitions a number, about three minutes
    python benchmarks/racing.py --repeats 200 --only ties

Ties: one trial runs against the best so far, and is better on all units of the selection half by a
hair, which is the hardest case: any stop is false. Units are those of a set that is measured unit
by unit. By world, which says how a trial differs from its rival from unit to unit:

    plain           normal differences
    texts           windows of documents of 1 to 20 of them: what sets models apart is lognormal by
                    document, with noise of each window, and last windows are short
    unlike lengths  normal differences, weights that are lognormal (sigma 1), as answers' lengths
    heavy tails     Student's with 3 degrees of freedom
    tail up, down   lognormal differences (sigma 0.8): the trial loses, or wins, much on a few
    classifier      cross entropy, the rival sure of itself and sometimes wrong, the trial less sure
    memorised       4 % of the texts are known by heart to the best model, half so to the trial
    out of the blue the same of 2 % of the texts, of which no other model knows anything: what no
                    look at a few units can see, and no other world has

Further ties: two or four sets with each aim, fronts, and a set that is kept.

Searches: trials that close in on an optimum, each against the best before it, as a search runs
them; a unit's loss is quadratic in the trial's place, with a gradient and a curvature of its own,
and every set has an optimum of its own. False stops are those of the best trial of all, on all
units (under `pareto`: of points of the front of all trials). By the reading of the population, what
counts is the trial that is best in expectation: `missed` says how often it is not the best on the
units at hand, and is not found by measuring everything either; `stopped` how often it is stopped;
`both best` how often it is stopped though it is the best on the units at hand, too. Saved is the
share of the evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks import harness
from benchmarks.interval_coverage import LENGTH_SPREAD, MOST_WINDOWS, SHORTEST, WINDOW
from mergekit_geo.config.aim import AimConfig
from mergekit_geo.evaluation.statistics import document_mean
from mergekit_geo.searches.racing import KNOWN, Race
from mergekit_geo.searches.schedule import Schedule, SetOrder, looks_of
from mergekit_geo.tasks.losses import Floats

HAIR = 1e-9
CHUNK = 250
"""Repetitions that are looked at together."""
UNITS = (24, 40, 160, 640, 2500)

# Worlds


@dataclass(frozen=True, eq=False)
class Units:
    """Units of a set in many repetitions (r, n).

    Attributes:
        weights: What each counts.
        rival: Its loss under the best so far.
        best: The same under the best model.
        rise: How much a trial lies above the rival; 0 on average.
    """

    weights: Floats
    rival: Floats
    best: Floats
    rise: Floats

    @classmethod
    def of(cls, rise: Floats, rival: Floats, best: Floats, weights: Floats | None = None) -> Units:
        """Units whose rise is moved to an average of none."""
        counts = np.ones_like(rise) if weights is None else weights
        mean = (counts * rise).sum(1) / counts.sum(1)
        return cls(counts, rival, best, rise - mean[:, None])


World = Callable[[tuple[int, int], np.random.Generator], Units]


def level(shape: tuple[int, int], draw: np.random.Generator) -> tuple[Floats, Floats]:
    """Losses of a rival and of the best model, in nats per token of windows."""
    rival = 3 + 0.5 * draw.normal(size=shape)
    return rival, rival + 0.1 * draw.normal(size=shape)


def plain(shape: tuple[int, int], draw: np.random.Generator) -> Units:
    return Units.of(0.1 * draw.normal(size=shape), *level(shape, draw))


def heavy(shape: tuple[int, int], draw: np.random.Generator) -> Units:
    return Units.of(0.1 * draw.standard_t(3, size=shape), *level(shape, draw))


def lengths(shape: tuple[int, int], draw: np.random.Generator) -> Units:
    weights = np.exp(draw.normal(size=shape))
    return Units.of(0.1 * draw.normal(size=shape), *level(shape, draw), weights)


def tail(sign: int, shape: tuple[int, int], draw: np.random.Generator) -> Units:
    rise = 0.1 * sign * np.exp(0.8 * draw.normal(size=shape))
    return Units.of(rise, *level(shape, draw))


def texts(shape: tuple[int, int], draw: np.random.Generator) -> Units:
    """Windows of documents, in a random order."""
    rise, weights = np.empty(shape), np.empty(shape)
    for row in range(shape[0]):
        rise[row], weights[row] = windows(shape[1], draw)
    return Units.of(0.1 * rise, *level(shape, draw), weights)


def windows(count: int, draw: np.random.Generator) -> tuple[Floats, Floats]:
    """Rises and tokens of so many windows, in a random order."""
    each = np.exp(0.7 + LENGTH_SPREAD * draw.normal(size=count)).round().clip(1, MOST_WINDOWS)
    document = np.repeat(np.arange(count), each.astype(int))[:count]
    tokens = np.full(count, float(WINDOW))
    last = np.flatnonzero(np.diff(document, append=-1))
    tokens[last] = draw.integers(SHORTEST, WINDOW + 1, size=len(last))
    own = -np.exp(0.4 * draw.normal(size=count))[document]
    order = draw.permutation(count)
    return (own + 0.4 * draw.normal(size=count))[order], tokens[order]


def classifier(shape: tuple[int, int], draw: np.random.Generator) -> Units:
    """Margins of the trial are 0.7 times its rival's, with noise, and moved until both tie."""
    margin = 3 + 3 * draw.normal(size=shape)
    own = 0.7 * margin + 0.7 * draw.normal(size=shape)
    rival, low, high = surprise(margin), np.full(shape[0], -9.0), np.full(shape[0], 9.0)
    for _ in range(40):
        middle = (low + high) / 2
        worse = (surprise(own + middle[:, None]) - rival).mean(1) > 0
        low, high = np.where(worse, middle, low), np.where(worse, high, middle)
    best = surprise(margin + 0.5 * draw.normal(size=shape))
    return Units.of(surprise(own + high[:, None]) - rival, rival, best)


def surprise(margin: Floats) -> Floats:
    return np.asarray(np.logaddexp(0, -margin))


def memorised(shape: tuple[int, int], draw: np.random.Generator) -> Units:
    known = draw.random(shape) < 0.04
    rival, best = level(shape, draw)
    rise = 0.03 * draw.normal(size=shape) - known * (1 + 0.2 * draw.normal(size=shape))
    return Units.of(rise, rival, best - known * (2 + 0.3 * draw.normal(size=shape)))


def unheard_of(shape: tuple[int, int], draw: np.random.Generator) -> Units:
    known = draw.random(shape) < 0.02
    rise = 0.03 * draw.normal(size=shape) - known * (1 + 0.2 * draw.normal(size=shape))
    return Units.of(rise, *level(shape, draw))


WORLDS: Mapping[str, World] = {
    "plain": plain,
    "texts": texts,
    "unlike lengths": lengths,
    "heavy tails": heavy,
    "tail up": partial(tail, 1),
    "tail down": partial(tail, -1),
    "classifier": classifier,
    "memorised": memorised,
    "out of the blue": unheard_of,
}

# Ties


def order(units: Units, met: Sequence[float], name: str = "data") -> SetOrder:
    """The order of a set, of which only what a race asks for is there."""
    count = units.weights.shape[-1]
    ends = np.array([round(share * count) for share in met])
    return SetOrder(
        name=name, weights=units.weights, best=units.best, document=np.arange(count), ends=ends,
        blocks=(), unit=np.arange(0), counts=np.zeros(0), work=np.diff(ends, prepend=0.0),
    )  # fmt: skip


def race_of(sets: Sequence[Units], aim: str = "mean", *, pareto: bool = False) -> Race:
    """The race over some sets of equal weight."""
    met = looks_of({str(i): one.weights.shape[-1] for i, one in enumerate(sets)})
    schedule = Schedule(tuple(order(one, met, str(i)) for i, one in enumerate(sets)))
    shares = [1 / len(sets)] * len(sets)
    return Race(schedule, AimConfig(aim), shares, [1.0] * len(sets), pareto)


def stopped(
    race: Race,
    trial: Sequence[Floats],
    rivals: Sequence[tuple[Floats, ...]],
    known: Sequence[tuple[Floats, ...]] = (),
) -> NDArray[np.bool_]:
    """In which repetitions a trial is stopped."""
    found = np.zeros(len(trial[0]), bool)
    for look in range(race.schedule.looks - 1):
        met = [one.ends[look] for one in race.schedule.sets]
        some = tuple(one[:, :m] for one, m in zip(trial, met, strict=True))
        found |= race.worse(some, look, rivals, known)
    return found


def tie(world: str, units: int, repeats: int, draw: np.random.Generator) -> NDArray[np.bool_]:
    """Stops of a trial that is better by a hair."""
    one = WORLDS[world]((repeats, units), draw)
    return stopped(race_of([one]), [one.rival + one.rise - HAIR], [(one.rival,)])


def tie_beside_known(
    likeness: float, world: str, units: int, repeats: int, draw: np.random.Generator
) -> NDArray[np.bool_]:
    """The same beside other trials, whose rises are the trial's to so large a part.

    The rest of each is a rise of its own, as unlike the others as they come.
    """
    one = WORLDS[world]((repeats, units), draw)
    rest = (1 - likeness**2) ** 0.5
    others = [WORLDS[world]((repeats, units), draw).rise for _ in range(KNOWN)]
    known = [(one.rival + likeness * one.rise + rest * other,) for other in others]
    return stopped(race_of([one]), [one.rival + one.rise - HAIR], [(one.rival,)], known)


def tie_of_sets(
    sets: int, aim: str, world: str, units: int, repeats: int, draw: np.random.Generator
) -> NDArray[np.bool_]:
    """The same over several sets; by the worst, as bad on every set as the rival's worst."""
    found = [WORLDS[world]((repeats, units), draw) for _ in range(sets)]
    if aim == "worst":  # the rival is as far from the best model on every set
        found = [Units.of(one.rise, one.rival, moved(one), one.weights) for one in found]
    trial = [one.rival + one.rise - HAIR for one in found]
    return stopped(race_of(found, aim), trial, [tuple(one.rival for one in found)])


def moved(one: Units) -> Floats:
    gap = (one.weights * (one.rival - one.best)).sum(1) / one.weights.sum(1)
    return np.asarray(one.best + gap[:, None])


def tie_of_front(
    points: int, world: str, units: int, repeats: int, draw: np.random.Generator
) -> NDArray[np.bool_]:
    """Two sets; every other point of the front is better by much on one, and as good on the other.

    Each differs from the trial by noise of its own.
    """
    sets = [[WORLDS[world]((repeats, units), draw) for _ in range(points)] for _ in range(2)]
    trial = [one[0].rival for one in sets]
    rivals = [
        tuple(trial[s] - sets[s][f].rise + HAIR - (f % 2 != s) * 2.0 for s in range(2))
        for f in range(points)
    ]
    return stopped(race_of([one[0] for one in sets], pareto=True), trial, rivals)


def tie_of_kept(
    world: str, units: int, repeats: int, draw: np.random.Generator
) -> NDArray[np.bool_]:
    """Two sets: better than the rival on both, and one that is kept is lost but for a hair."""
    found = []
    for _ in range(repeats):
        one = WORLDS[world]((1, units), draw)
        rise, weights = one.rise[0], one.weights[0]
        low = document_mean(rise, weights, np.arange(units)).estimate.low
        assert low is not None, "too few units"
        first = Units(weights, one.best[0] + rise + 9, one.best[0], rise)
        race = race_of([first, first])
        race = Race(race.schedule, AimConfig(keep=["1"]), race.weights, race.scales)
        own = one.best[0] + rise - low - HAIR
        rivals = [(own + 9, one.best[0])]
        ends = [order.ends for order in race.schedule.sets]
        found.append(
            any(
                race.is_worse((own[: ends[0][k]], own[: ends[1][k]]), k, rivals)
                for k in range(race.schedule.looks - 1)
            )
        )
    return np.array(found)


TIES: Mapping[str, Callable[..., NDArray[np.bool_]]] = {
    "others known, unlike": partial(tie_beside_known, 0.0),
    "others known, alike": partial(tie_beside_known, 0.7),
    "worst of 2 sets": partial(tie_of_sets, 2, "worst"),
    "worst of 4 sets": partial(tie_of_sets, 4, "worst"),
    "mean of 2 sets": partial(tie_of_sets, 2, "mean"),
    "front of 2 points": partial(tie_of_front, 2),
    "front of 8 points": partial(tie_of_front, 8),
    "a set that is kept": tie_of_kept,
}
OF_TIES = ("texts", "tail down")

# Searches

PLACES, TRIALS = 6, 40
SPREAD, CLOSER, LEAST = 0.5, 0.93, 0.05
"""Of the first trials about the optimum, how it shrinks from trial to trial, and its floor."""


@dataclass(frozen=True)
class Search:
    """How trials are compared, and on what.

    Attributes:
        name: For the table.
        units: Of each set.
        aim: What is minimised; `pareto` for a front.
        skew: Sigma of the logarithm of a unit's curvature, and of its gradient's length.
    """

    name: str
    units: tuple[int, ...]
    aim: str = "mean"
    skew: float = 0.4

    @property
    def optima(self) -> Floats:
        """(s, 6) where each set has its own."""
        apart = np.zeros((len(self.units), PLACES))
        for i in range(1, len(self.units)):
            apart[i, i] = 0.5
        return np.asarray(apart - apart.mean(0))


SEARCHES = (
    Search("one set, few units", (40,)),
    Search("one set", (160,)),
    Search("one set, many units", (1000,)),
    Search("one set, more skew", (160,), skew=0.8),
    Search("mean of 2 sets", (160, 450)),
    Search("worst of 2 sets", (160, 450), "worst"),
    Search("worst of 2 sets, more skew", (160, 450), "worst", skew=0.8),
    Search("worst of 4 sets, few units", (40, 40, 40, 40), "worst"),
    Search("front of 2 sets", (160, 450), "pareto"),
)


@dataclass(frozen=True, eq=False)
class Landscape:
    """Losses of one set's units at any place, in many repetitions (r, n).

    Attributes:
        base: Loss at the optimum.
        gradient: (r, n, 6) of each unit there; 0 on average.
        curvature: Of each; 1 on average.
        optimum: (6,) the place.
    """

    base: Floats
    gradient: Floats
    curvature: Floats
    optimum: Floats

    @classmethod
    def of(cls, search: Search, index: int, repeats: int, draw: np.random.Generator) -> Landscape:
        """Draw that of one of the sets."""
        shape = (repeats, search.units[index])
        size = np.exp(search.skew * draw.normal(size=shape))
        curvature = np.exp(search.skew * draw.normal(size=shape) - search.skew**2 / 2)
        gradient = 0.15 * size[..., None] * draw.normal(size=(*shape, PLACES))
        return cls(level(shape, draw)[0], gradient, curvature, search.optima[index])

    def at(self, place: Floats) -> Floats:
        """(r, n) losses at a place (r, 6)."""
        step = place - self.optimum
        bent = self.curvature * np.square(step).sum(1)[:, None] / 2
        return np.asarray(self.base + np.einsum("rnp,rp->rn", self.gradient, step) + bent)

    def expected(self, place: Floats) -> Floats:
        """(...,) mean loss above that of the optimum in the population, at places (..., 6)."""
        return np.asarray(np.square(place - self.optimum).sum(-1) / 2)


def places(repeats: int, draw: np.random.Generator) -> Floats:
    """(t, r, 6) of all trials."""
    spread = np.maximum(SPREAD * CLOSER ** np.arange(TRIALS), LEAST)
    return np.asarray(spread[:, None, None] * draw.normal(size=(TRIALS, repeats, PLACES)))


def searched(search: Search, repeats: int, draw: np.random.Generator) -> Floats:
    """(5,) sums over repetitions: false stops, the reading of the population, share saved."""
    sets = [Landscape.of(search, i, repeats, draw) for i in range(len(search.units))]
    trials = places(repeats, draw)
    units = [Units(np.ones_like(s.base), s.base, best_model(s), s.base) for s in sets]
    race = race_of(units, search.aim)
    losses = [tuple(s.at(place) for s in sets) for place in trials]
    values = np.array([combined(search.aim, units, one) for one in losses])
    expected = [s.expected(trials) - s.expected(apart(s)) for s in sets]
    truth = np.max(expected, axis=0) if search.aim == "worst" else np.mean(expected, axis=0)
    stops, cost = run(race, losses, values)
    every, best, right = np.arange(repeats), values.argmin(0), truth.argmin(0)
    false, of_right = stops[best, every], stops[right, every]
    missed, won = right != best, of_right & (right == best)
    return np.array([x.sum() for x in (false, missed, of_right, won, 1 - cost / TRIALS)])


def apart(one: Landscape) -> Floats:
    """Place of the best model of a set: 0.4 off its optimum."""
    away = np.zeros(PLACES)
    away[-1] = 0.4
    return np.asarray(one.optimum + away)


def best_model(one: Landscape) -> Floats:
    return one.at(np.broadcast_to(apart(one), (len(one.base), PLACES)))


def combined(aim: str, units: Sequence[Units], losses: Sequence[Floats]) -> Floats:
    """(r,) what trials count."""
    found = [(one - u.best).mean(1) for one, u in zip(losses, units, strict=True)]
    return np.asarray(np.max(found, axis=0) if aim == "worst" else np.mean(found, axis=0))


def run(
    race: Race, losses: Sequence[tuple[Floats, ...]], values: Floats
) -> tuple[NDArray[np.bool_], Floats]:
    """(t, r) which trials are stopped, one after the other, and (r,) full evaluations in all."""
    stops, cost = np.zeros(values.shape, bool), np.ones(values.shape[1])
    best, least = list(losses[0]), values[0].copy()
    known = [list(losses[0])] * KNOWN
    for t in range(1, len(losses)):
        for look in range(race.schedule.looks):
            cost += ~stops[t] * race.schedule.cost[look]
            if look < race.schedule.looks - 1:
                left = np.flatnonzero(~stops[t])
                stops[t, left] = worse(race, left, look, losses[t], best, known)
        known = latest(known, losses[t], stops[t])
        better = ~stops[t] & (values[t] < least)
        least = np.where(better, values[t], least)
        best = [np.where(better[:, None], a, b) for a, b in zip(losses[t], best, strict=True)]
    return stops, cost


def worse(
    race: Race,
    some: NDArray[np.int64],
    look: int,
    trial: Sequence[Floats],
    rival: Sequence[Floats],
    known: Sequence[Sequence[Floats]],
) -> NDArray[np.bool_]:
    """Whether trials are stopped at a look, in some of the repetitions."""
    orders = [
        replace(one, weights=one.weights[some], best=one.best[some]) for one in race.schedule.sets
    ]
    of_some = replace(race, schedule=Schedule(tuple(orders)))
    pairs = zip(trial, orders, strict=True)
    met = tuple(one[some, : order.ends[look]] for one, order in pairs)
    rivals, others = [[one[some] for one in rival]], [[x[some] for x in one] for one in known]
    return of_some.worse(met, look, [tuple(one) for one in rivals], [tuple(one) for one in others])


def latest(
    known: Sequence[Sequence[Floats]], losses: Sequence[Floats], stops: NDArray[np.bool_]
) -> list[list[Floats]]:
    """The latest whole trials of each repetition, from those and a further one."""
    moved_on = [losses, *known[:-1]]
    return [
        [np.where(stops[:, None], old, new) for old, new in zip(one, other, strict=True)]
        for one, other in zip(known, moved_on, strict=True)
    ]


def searched_front(search: Search, repeats: int, draw: np.random.Generator) -> Floats:
    """The same where every set is an aim: false stops are a share of the points of the front."""
    found = np.zeros(5)
    for _ in range(repeats):
        sets = [Landscape.of(search, i, 1, draw) for i in range(len(search.units))]
        units = [
            Units(np.ones(s.base.shape[1]), s.base[0], best_model(s)[0], s.base[0]) for s in sets
        ]
        race = race_of(units, pareto=True)
        trials = [tuple(s.at(place)[0] for s in sets) for place in places(1, draw)]
        found += front_of(race, trials)
    return found


def front_of(race: Race, trials: Sequence[tuple[Floats, ...]]) -> Floats:
    values = np.array([race.values(one) for one in trials])
    front: list[int] = []
    stops, cost = np.zeros(len(trials), bool), 0.0
    for t, trial in enumerate(trials):
        rivals = [trials[f] for f in front]
        others = [trials[i] for i in range(t)[::-1] if not stops[i] and i not in front]
        for look in range(race.schedule.looks):
            cost += float(race.schedule.cost[look])
            met = [one.ends[look] for one in race.schedule.sets]
            some = tuple(one[:m] for one, m in zip(trial, met, strict=True))
            if race.is_worse(some, look, rivals, others[:KNOWN]):
                stops[t] = True
                break
        else:
            front = undominated(values, [*front, t])
    right = undominated(values, range(len(trials)))
    return np.array([stops[right].mean(), *[np.nan] * 3, 1 - cost / len(trials)])


def undominated(values: Floats, some: Sequence[int]) -> list[int]:
    return [
        i for i in some
        if not any((values[j] <= values[i]).all() and (values[j] < values[i]).any() for j in some)
    ]  # fmt: skip


# Tables


def share_of_ties(name: str, world: str, units: int, repeats: int) -> float:
    """Share of false stops of one setting."""
    draw = np.random.default_rng([units, *name.encode(), *world.encode()])
    work = partial(tie, world) if name == "tie" else partial(TIES[name], world)
    return float(np.mean(np.concatenate([work(units, r, draw) for r in chunks(repeats)])))


def row_of_search(search: Search, repeats: int) -> list[str]:
    draw = np.random.default_rng([*search.name.encode()])
    work = searched_front if search.aim == "pareto" else searched
    if search.aim == "pareto":
        repeats = max(1, repeats // 5)
    found = np.sum([work(search, r, draw) for r in chunks(repeats)], axis=0) / repeats
    return [search.name, *(said(share) for share in found)]


def chunks(repeats: int) -> Iterator[int]:
    for start in range(0, repeats, CHUNK):
        yield min(CHUNK, repeats - start)


def said(share: float) -> str:
    return "" if np.isnan(share) else f"{share:.1%}"


def ties(pool: ProcessPoolExecutor, repeats: int) -> Iterator[list[str]]:
    rows: list[tuple[str, str, tuple[int, ...]]] = [("tie", world, UNITS) for world in WORLDS]
    rows += [(name, world, UNITS[1:4]) for name in TIES for world in OF_TIES]
    for name, world, units in rows:
        count = max(1, repeats // 4) if name == "a set that is kept" else repeats
        work = partial(share_of_ties, name, world, repeats=count)
        found = dict(zip(units, pool.map(work, units), strict=True))
        title = world if name == "tie" else f"{name}, {world}"
        yield [title, *(said(found[u]) if u in found else "" for u in UNITS)]


def main() -> None:
    options = harness.parser(__doc__, only=("ties", "searches"), repeats=2000).parse_args()
    with ProcessPoolExecutor() as pool:
        if "ties" in options.only:
            head = ["false stops", *(f"{count} units" for count in UNITS)]
            harness.table(head, ties(pool, options.repeats))
        if "searches" in options.only:
            head = ["search", "false stops", "missed", "stopped", "both best", "saved"]
            harness.table(head, pool.map(partial(row_of_search, repeats=options.repeats), SEARCHES))


if __name__ == "__main__":
    main()
