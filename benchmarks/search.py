"""Search a merge that keeps two skills, and compare what searches of equal worth find.

Usage:
    python benchmarks/search.py                            # an hour on two cores
    python benchmarks/search.py --subject toy   # seconds: losses that need no model
    python benchmarks/search.py --work DIR --arms search   # goes on from losses that DIR keeps

The space: TIES over the demo's two specialists with a weight of each for self-attention and for the
MLP, and a density of each: six numbers. The aim: the worst of the differences to the better
specialist on prose and on code, on the selection half. Prose are passages of the held-out half of
`builtin:python-docs`, each a document: its 20 topics differ so much that ten of them choose other
weights than the other ten would (`--topics` takes them). Code is `builtin:python-source`. What a
search may spend is counted in evaluations: one measures every example of the selection half of both
sets once.

- `search`: what `geo-merge search` does: CMA-ES from warm starts, with racing.
- `default`: the recipe's defaults.
- `random`: uniform draws after the same warm starts, without racing.
- `cma`: CMA-ES of the library cmaes from the middle, without warm starts and racing: what evolving
  merges is elsewhere.

Each seed has halves of its own, and an order of racing: what sets the halves apart is noise, and no
error that all seeds share. What a search takes is measured on all examples of the report half;
differences are paired by seed, with 95 % intervals (Student).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks import harness

SETS = ("prose", "code")
WEIGHT, DENSITY = {"min": 0.0, "max": 1.5}, {"min": 0.1, "max": 1.0}
ARMS = {"search": (60,), "default": (1,), "random": (120, 60), "cma": (60,)}
"""Searches, and after how many evaluations it is looked at what they have found."""

OWN = ("search", 60)
ASKED = {("random", 120): "not worse", ("random", 60): "better", ("cma", 60): "not worse"}
"""What is asked of our search beside each other one."""

PASSAGE = 300
"""Characters from which on a passage is long enough."""

STEP = 1 / 6
"""First standard deviation of plain CMA-ES, as a share of each range."""


def recipe(base: str, models: Sequence[str]) -> dict[str, Any]:
    """TIES with six numbers to find."""
    kinds = [{"filter": kind, "value": WEIGHT} for kind in ("self_attn", "mlp")]
    given = {"weight": [*kinds, {"value": 0.5}], "density": DENSITY}
    return {
        "merge_method": "ties", "base_model": base, "parameters": {"normalize": False},
        "models": [{"model": model, "parameters": given} for model in models],
    }  # fmt: skip


class Subject(Protocol):
    """What is searched."""

    space: Any
    race: Any

    def __call__(self, trial: Any) -> Any:
        """Measure a trial, in a race with its rivals if it has any."""

    def judged(self, values: Mapping[str, Any]) -> float:
        """The aim on the report half."""


# Subjects


@dataclass
class Demo:
    """The two specialists of the demo.

    Attributes:
        folder: Of the demo.
        most: Examples of each set that searches measure.
        prose: The source of the prose.
        kept: A folder for losses of trials, which are not measured again.
        seed: Of the halves.
    """

    folder: Path
    most: int
    prose: str
    kept: Path
    seed: int

    @cached_property
    def space(self) -> Any:
        """The space of the recipe."""
        from mergekit_geo.searches.space import Space

        models = [str(self.folder / name) for name in SETS]
        return Space.of(recipe(str(self.folder / "base"), models))

    @cached_property
    def evaluator(self) -> Any:
        """On a sample of both sets."""
        return self._evaluator(self.most)

    @cached_property
    def judge(self) -> Any:
        """On all of both sets, with the same halves."""
        return self._evaluator(None)

    @cached_property
    def race(self) -> Any:
        """For the worst set."""
        from mergekit_geo.evaluation.aim import Aim, AimConfig
        from mergekit_geo.searches.racing import Race
        from mergekit_geo.searches.schedule import Schedule

        schedule = Schedule.of(self.evaluator, seed=self.seed)
        return Race.of(schedule, Aim(self.evaluator, AimConfig("worst")))

    @cached_property
    def measurer(self) -> Any:
        """Measures in the live module, as the command does."""
        from mergekit_geo.config.reshape import ReshapeConfig
        from mergekit_geo.searches.candidates import Candidates
        from mergekit_geo.searches.worker import Measurer

        candidates = Candidates.open(self.space, {}, ReshapeConfig())
        return Measurer(candidates, self.evaluator, self.race)

    def __call__(self, trial: Any) -> Any:
        """Measure a trial, or know its losses."""
        file = self.kept / f"{self._key(trial.values)}.npz"
        if file.exists():
            with np.load(file) as found:
                known = raced(self.race, trial, tuple(found[name] for name in SETS))
            if known is not None:
                return known
        outcome = self.measurer(trial)
        if not outcome.error:
            np.savez(file, **dict(zip(SETS, outcome.losses, strict=True)))
        return outcome

    def judged(self, values: Mapping[str, Any]) -> float:
        """The worst difference to the better specialist on all of the report half."""
        from mergekit_geo.evaluation.aim import Aim, AimConfig

        point = self.measurer.candidates.point(values, "taken")
        rows = [one.split.report for one in self.judge.every]
        found = zip(self.judge.at_all(point), rows, strict=True)
        losses = [losses.take(each) for losses, each in found]
        return Aim(self.judge, AimConfig("worst")).of(losses, rows)

    def _key(self, values: Mapping[str, Any]) -> str:
        said = [dict(values), self.most, self.prose, self.seed]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def _evaluator(self, most: int | None) -> Any:
        import mergekit_geo as geo
        from benchmarks.evaluation import evaluator

        sources = {"prose": self.prose, "code": "builtin:python-source"}
        data = {
            name: geo.EvalData(source, max_examples=most, seed=self.seed)
            for name, source in sources.items()
        }
        return evaluator([self.folder / name for name in ("base", *SETS)], data, "cpu")


@dataclass
class Toy:
    """Losses of examples that need no model: a bowl for each skill, in the same six numbers.

    Attributes:
        seed: Of the examples.
        count: Of each set, in each half.
    """

    seed: int
    count: int = 200
    space: Any = field(init=False)
    race: Any = field(init=False)

    def __post_init__(self) -> None:
        from mergekit_geo.config.aim import AimConfig
        from mergekit_geo.searches.racing import Race
        from mergekit_geo.searches.schedule import Schedule, SetOrder, looks_of
        from mergekit_geo.searches.space import Space

        self.space = Space.of(recipe("base", tuple(SETS)))
        looks = looks_of(dict.fromkeys(SETS, self.count))
        ends = np.array([round(share * self.count) for share in looks])
        places = np.arange(self.count)
        orders = [
            SetOrder(
                name=name, weights=np.ones(self.count), best=self._base(i, half=0),
                document=places, ends=ends, blocks=tuple(np.split(places, ends[:-1])),
                unit=places, counts=np.ones(self.count), work=np.diff(ends, prepend=0) * 1.0,
            )
            for i, name in enumerate(SETS)
        ]  # fmt: skip
        self.race = Race(Schedule(tuple(orders)), AimConfig("worst"), (0.5, 0.5), (1.0, 1.0))

    def __call__(self, trial: Any) -> Any:
        """Know the losses of a trial."""
        losses = tuple(self._losses(trial.values, i, half=0) for i in range(len(SETS)))
        return raced(self.race, trial, losses)

    def judged(self, values: Mapping[str, Any]) -> float:
        """The worst mean difference on the other half."""
        return max(
            float(np.mean(self._losses(values, i, half=1) - self._base(i, half=1)))
            for i in range(len(SETS))
        )

    def _base(self, index: int, *, half: int) -> Any:
        drawn = np.random.default_rng([self.seed, index, half])
        return 3.0 + drawn.gamma(2.0, 0.4, self.count)

    def _losses(self, values: Mapping[str, Any], index: int, *, half: int) -> Any:
        """A bowl around this skill's optimum, which every example has a little elsewhere."""
        place = np.array([float(value) for value in values.values()])
        drawn = np.random.default_rng([self.seed, index, half, 1])
        centre = np.array([(0.9, 0.8, 0.4, 0.5, 0.2, 0.7), (0.3, 0.4, 0.6, 0.8, 0.9, 0.3)][index])
        scale = np.array([0.5, 0.9, 0.1, 0.6, 0.8, 0.2])
        own = centre + drawn.normal(0, 0.4, (self.count, len(place)))
        bowl = (scale * ((place - own) ** 2 - (own - centre) ** 2)).sum(axis=1)
        return self._base(index, half=half) + bowl


def raced(race: Any, trial: Any, losses: Sequence[Any]) -> Any:
    """What a race would have measured of known losses; None where too few are known."""
    from mergekit_geo.searches.trial import Outcome

    ends = [order.ends for order in race.schedule.sets]
    cost = np.cumsum(race.schedule.cost)
    for look in range(race.schedule.looks - 1):
        met = tuple(one[: end[look]] for one, end in zip(losses, ends, strict=True))
        if any(len(one) < end[look] for one, end in zip(met, ends, strict=True)):
            return None
        if race.is_worse(met, look, trial.rivals, trial.known):
            return Outcome(trial.number, met, stopped=True, share=float(cost[look]))
    is_whole = all(len(one) == end[-1] for one, end in zip(losses, ends, strict=True))
    return Outcome(trial.number, tuple(losses)) if is_whole else None


# Searches


@dataclass(frozen=True)
class Tried:
    """A trial of a search.

    Attributes:
        begun: What was spent before it.
        values: Its place.
        value: What it counts; none where it was stopped.
    """

    begun: float
    values: Mapping[str, Any]
    value: float | None


def searched(subject: Subject, arm: str, worth: float, seed: int) -> list[Tried]:
    """The trials of a search."""
    if arm == "default":
        return alone(subject, subject.space.defaults)
    if arm == "cma":
        return evolved(subject, worth, seed)
    from mergekit_geo.interrupt import Interruption
    from mergekit_geo.progress import Silent
    from mergekit_geo.searches.engine import Here
    from mergekit_geo.searches.loop import Limits, Search
    from mergekit_geo.searches.study import SearchStudy
    from mergekit_geo.searches.warm_starts import warm_starts

    kind = "auto" if arm == "search" else "random"
    study = SearchStudy.open(None, f"{arm} {seed}", {}, sampler=kind, seed=seed)
    study.enqueue(warm_starts(subject.space))
    measure = subject if arm == "search" else lambda trial: subject(replace(trial, rivals=()))
    limits = Limits(trials=100 * int(worth), evaluations=worth)
    Search(
        study, subject.space, subject.race, Here(measure), limits, Silent(), Interruption()
    ).run()
    found, spent = [], 0.0
    for trial in study.finished():
        found.append(Tried(spent, trial.values, trial.value if trial.is_whole else None))
        spent += trial.share
    return found


def alone(subject: Subject, values: Mapping[str, Any]) -> list[Tried]:
    """One trial."""
    from mergekit_geo.searches.trial import Trial

    return [Tried(0.0, values, subject.race.value(subject(Trial(0, values)).losses))]


def evolved(subject: Subject, worth: float, seed: int) -> list[Tried]:
    """The trials of plain CMA-ES."""
    import cmaes

    from mergekit_geo.searches.trial import Trial

    ranges = subject.space.dimensions
    low, high = (np.array([getattr(one, end) for one in ranges]) for end in ("low", "high"))
    bounds = np.tile((0.0, 1.0), (len(ranges), 1))
    state = cmaes.CMA(mean=np.full(len(ranges), 0.5), sigma=STEP, bounds=bounds, seed=seed + 1)
    found: list[Tried] = []
    while len(found) < worth:
        generation = []
        for _ in range(min(state.population_size, int(worth) - len(found))):
            place = state.ask()
            numbers = (low + place * (high - low)).tolist()
            values = {one.name: number for one, number in zip(ranges, numbers, strict=True)}
            value = subject.race.value(subject(Trial(len(found), values)).losses)
            generation.append((place, value))
            found.append(Tried(len(found), values, value))
        if len(generation) == state.population_size:
            state.tell(generation)
    return found


# The comparison


@dataclass
class Results:
    """What searches found, by their name and worth: one of each a seed."""

    trials: dict[tuple[str, int], list[list[Tried]]] = field(default_factory=dict)
    report: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def add(self, subject: Subject, arm: str, seed: int) -> None:
        """Search, and judge what is taken."""
        found = searched(subject, arm, max(ARMS[arm]), seed)
        for worth in ARMS[arm]:
            within = [one for one in found if one.begun < worth]
            self.trials.setdefault((arm, worth), []).append(within)
            self.report.setdefault((arm, worth), []).append(subject.judged(taken(within).values))

    def rows(self) -> Iterator[list[str]]:
        """A row a search."""
        own = self.report.get(OWN)
        chosen = [*map(best, self.trials[OWN])] if OWN in self.trials else None
        for key, report in self.report.items():
            searches = self.trials[key]
            stopped = [np.mean([one.value is None for one in found]) for found in searches]
            yield [
                key[0], str(key[1]), f"{np.mean([*map(len, searches)]):.0f}",
                f"{np.mean(stopped):.0%}", f"{np.mean([*map(best, searches)]):.4f}",
                f"{np.mean(report):.4f}", difference(chosen, [*map(best, searches)])[0],
                *compared(own, report, ASKED.get(key)),
            ]  # fmt: skip


def taken(found: Sequence[Tried]) -> Tried:
    """The whole trial of the lowest value."""
    return min(found, key=lambda one: np.inf if one.value is None else one.value)


def best(found: Sequence[Tried]) -> float:
    """Its value."""
    value = taken(found).value
    assert value is not None
    return value


def difference(own: Sequence[float] | None, other: Sequence[float]) -> tuple[str, str]:
    """The mean difference to another search with its interval, and what it says."""
    from scipy import stats

    if own is None or len(own) == 1 or own == other:
        return "", ""
    found = np.subtract(own, other)
    wide = stats.t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / len(found) ** 0.5
    low, high = found.mean() - wide, found.mean() + wide
    says = "better" if high < 0 else "worse" if low > 0 else "not worse"
    return f"{found.mean():+.4f} [{low:+.4f}, {high:+.4f}]", says


def compared(own: Sequence[float] | None, other: Sequence[float], asked: str | None) -> list[str]:
    """The same, and whether it is what is asked."""
    shown, says = difference(own, other)
    is_met = harness.met(says in ("better", asked)) if asked and says else ""
    return [shown, says, asked or "", is_met]


def subjects(options: Namespace, kept: Path) -> Iterator[Subject]:
    """What is searched with each seed."""
    if options.subject == "toy":
        return map(Toy, options.seeds)
    prose = "builtin:python-docs" if options.topics else str(passages(kept.parent))
    return (Demo(options.demo, options.max_examples, prose, kept, one) for one in options.seeds)


def passages(work: Path) -> Path:
    """The held-out topics in passages of a few paragraphs, each a document."""
    from mergekit_geo.data.text import builtin_documents

    file, found = work / "passages.jsonl", [""]
    for topic in builtin_documents("held-out"):
        for paragraph in topic.text.split("\n\n"):
            if len(found[-1]) < PASSAGE:
                found[-1] = f"{found[-1]}\n\n{paragraph}".strip()
            else:
                found.append(paragraph)
        found.append("")
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in found if text))
    return file


def main() -> None:
    parser = harness.parser(__doc__, keeps=True)
    parser.add_argument("--subject", choices=("demo", "toy"), default="demo")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[*ARMS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[*range(5)], metavar="SEED")
    parser.add_argument("--topics", action="store_true", help="prose are whole topics")
    parser.add_argument("--demo", type=Path, default=harness.ROOT / "demo")
    parser.add_argument(
        "--max-examples", type=harness.positive, default=300,
        help="of each set that searches measure; what they take is judged on all (300)",
    )  # fmt: skip
    options = parser.parse_args()
    harness.work_offline(threads=1)
    os.environ["TQDM_DISABLE"] = "1"
    print(harness.versions())
    results = Results()
    with harness.work_folder(options.work, keep=options.keep) as work:
        os.environ["XDG_CACHE_HOME"] = str(work / "cache")
        (kept := work / "losses").mkdir(exist_ok=True)
        for seed, one in zip(options.seeds, subjects(options, kept), strict=True):
            for arm in options.arms:
                began = time.perf_counter()
                results.add(one, arm, seed)
                harness.say(f"{arm}, seed {seed}", began)
    head = ["search", "worth", "trials", "stopped", "selection", "report"]
    head += ["search less it: selection", "report", "says", "asked", ""]
    harness.table(head, results.rows())


if __name__ == "__main__":
    main()
