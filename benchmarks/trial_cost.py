"""What a trial of a search costs beside its evaluation: its point is put into the live module.

Usage:
    python benchmarks/trial_cost.py                      # the demo
    python benchmarks/trial_cost.py --methods ties della
    python benchmarks/trial_cost.py --seq-len 32 --models BASE A B

An evaluation measures every selection document of both sets once. A put gives the module the
weights of the next trial: new weights each time, and as `new` a new density each time, as `equal`
one that trials before it had, whose masks are known; as `alone` nothing is known of the trials
before. `study` is what else a trial costs: values are
asked of a study in a file that has a hundred trials, made a recipe and the rules of all tensors,
and the trial is told with its losses. The ratio is what a trial costs over its evaluation, of the
fastest of `--repeats` rounds, in wall and in the processor's time; rounds alternate.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.evaluation import evaluator, fastest
from benchmarks.search import recipe

LINEAR = ("linear", "task_arithmetic", "slerp", "karcher", "model_stock", "multislerp")
MASKED = (
    "ties", "dare_ties", "dare_linear", "della", "della_linear", "breadcrumbs",
    "breadcrumbs_ties", "sce",
)  # fmt: skip
MOST = {"linear": 1.05, "masked": 1.15}
"""Most that a trial may cost, over its evaluation."""

PUTS = 5
"""Puts that are timed together."""

PAIR, WITHOUT_BASE = ("slerp",), ("linear", "karcher", "multislerp")


def rules(method: str, *, new: bool) -> Iterator[Any]:
    """Rules of trials of a method, with weights that are new each time.

    Args:
        method: Its name.
        new: Whether densities are new each time, too.
    """
    from mergekit_geo.merging.methods import rule_of

    drawn = np.random.default_rng(0)
    count = 2 if method in PAIR else 3
    base = None if method in WITHOUT_BASE else 0
    while True:
        density = float(drawn.uniform(0.3, 0.7)) if new else 0.5
        own = {"select_topk": density} if method == "sce" else {"density": density}
        given: dict[str, Any] = own if method in MASKED else {}
        if method == "slerp":
            given = {"t": float(drawn.uniform())}
        elif method not in ("sce", "model_stock"):
            given |= {"weights": drawn.uniform(0.2, 0.8, count - (base is not None)).tolist()}
        yield rule_of(method, count, base, **given)


def works(options: Namespace) -> dict[tuple[str, str], Callable[[], harness.Cost]]:
    """The evaluation, and a few puts of every method."""
    import mergekit_geo as geo

    sources = {"docs": "builtin:python-docs", "code": "builtin:python-source"}
    data = {name: geo.EvalData(source, seq_len=options.seq_len) for name, source in sources.items()}
    with harness.empty_cache():
        whole = evaluator(options.models, data, "cpu")
        halves = [one.objective.of(one.split.selection) for one in whole.every]

    def evaluated() -> None:
        for half in halves:
            half.measure(whole.live.model)

    found = {("evaluation", ""): partial(harness.timed, evaluated)}
    for method in options.methods:
        for kind in ("alone", "new", "equal") if method in MASKED else ("alone", ""):
            each = rules(method, new=kind == "new")
            memo = None if kind == "alone" else whole.live.memo
            found[method, kind] = partial(
                harness.timed, partial(put, whole, method, each, memo), PUTS
            )
    found["study", ""] = partial(harness.timed, asked_and_told(whole, options), PUTS)
    return found


def asked_and_told(whole: Any, options: Namespace) -> Callable[[], None]:
    """A trial that is not measured."""
    from mergekit_geo.recipes.inputs import inputs_of
    from mergekit_geo.recipes.reading import read_document
    from mergekit_geo.recipes.resolve import resolve
    from mergekit_geo.searches.space import Space
    from mergekit_geo.searches.study import SearchStudy
    from mergekit_geo.searches.trial import Outcome

    base, *models = map(str, options.models)
    space = Space.of(recipe(base, models))
    study = SearchStudy.open(options.folder / "study.log", "cost", {})
    drawn = np.random.default_rng(0)

    def trial() -> None:
        number, values, _ = study.ask(space)
        inputs = inputs_of(read_document(space.resolved(values)).recipe)
        resolve(inputs, whole.anchors[0])
        losses = tuple(drawn.normal(size=len(one.split.selection)) for one in whole.every)
        study.tell(number, float(losses[0].mean()), Outcome(number, losses), 0.0, (0.0, 1.0))
        assert study.best

    for _ in range(100):
        trial()
    return trial


def put(whole: Any, method: str, each: Iterator[Any], memo: Any) -> None:
    """Give the module the weights of the next trial."""
    from mergekit_geo.evaluation.point import Point

    whole.live.memo = memo
    taken = (1, 2) if method in PAIR else None
    whole.go_to(Point(next(each), method, method, taken))


def rows(options: Namespace) -> Iterator[list[str]]:
    """A row a method."""
    found = harness.alternate(works(options), options.repeats, warm_up=True)
    evaluated = fastest(found.pop(("evaluation", "")))
    yield ["evaluation", "", f"{evaluated.cpu * 1e3:.0f}", "", "", "", ""]
    for (method, kind), costs in found.items():
        spent, most = fastest(costs), MOST["masked" if method in MASKED else "linear"]
        wall = 1 + spent.wall / PUTS / evaluated.wall
        cpu = 1 + spent.cpu / PUTS / evaluated.cpu
        yield [
            method, kind, f"{spent.cpu / PUTS * 1e3:.1f}", f"{wall:.3f}", f"{cpu:.3f}",
            f"{most:.2f}", harness.met(max(wall, cpu) <= most),
        ]  # fmt: skip


def main() -> None:
    demo = harness.ROOT / "demo"
    parser = harness.parser(__doc__, repeats=3)
    known = [*LINEAR, *MASKED]
    parser.add_argument("--methods", nargs="+", choices=known, default=known)
    models = [demo / "base", demo / "prose", demo / "code"]
    parser.add_argument(
        "--models", nargs=3, type=Path, default=models, help="a base and two of it (the demo's)"
    )
    parser.add_argument("--seq-len", type=harness.positive, help="window length in tokens")
    options = parser.parse_args()
    harness.work_offline(threads=1)
    os.environ["TQDM_DISABLE"] = "1"
    print(harness.versions())
    head = ["put", "densities", "CPU ms", "x wall", "x CPU", "asked", ""]
    with harness.work_folder(None, keep=False) as options.folder:
        harness.table(head, rows(options))


if __name__ == "__main__":
    main()
