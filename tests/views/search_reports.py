"""Searches that are made up, and hang together: values follow from places, the best from values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mergekit_geo.records.losses import Estimate, SetEntry
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.search import (
    DimensionEntry,
    ReferenceEntry,
    ReferenceSetEntry,
    SearchEntry,
    SearchMeasurements,
    TrialEntry,
)
from tests.views.set_reports import estimated, one_set, report_on

STARTS = ("default recipe and uniform soup", "prose alone", "code alone", "learned soup")
NAMES = (
    "weight of prose (mlp)", "weight of prose (attention)", "weight of code (mlp)",
    "weight of code (attention)", "density of prose", "density of code",
)  # fmt: skip
HALF = 0.04
"""Half the interval of a value."""


def dimensions(count: int, *, methods: bool = False) -> list[DimensionEntry]:
    """Weights between 0 and 1, densities on a logarithmic scale, and a choice of methods."""
    found = [
        DimensionEntry(name=name, low=0.1 if "density" in name else 0.0, high=1.0,
                       log="density" in name, when="merge_method: ties" if methods and
                       "density" in name else "")
        for name in [*NAMES, *(f"weight of layer {i}" for i in range(len(NAMES), count))][:count]
    ]  # fmt: skip
    labels = DimensionEntry(name="merge_method", labels=["linear", "ties"])
    return [*found, labels] if methods else found


def searched(
    trials: int = 60, sets: Sequence[str] = ("docs", "code"), count: int = 6, **changes: Any
) -> SearchEntry:
    """A search whose sampler comes nearer to the best place with every trial.

    Args:
        trials: How many.
        sets: Names; the loss is the value where there is one.
        count: Numbers that are searched.
        changes: Of the entry; `methods`, `pareto` and `lost` (numbers of trials) of how it is made.
    """
    methods, pareto, lost = (changes.pop(name, ()) for name in ("methods", "pareto", "lost"))
    spans = dimensions(count, methods=bool(methods))
    draw = np.random.default_rng(0)
    middles = [draw.uniform(0.3, 0.7, count) for _ in sets]
    found: list[TrialEntry] = []
    for number in range(trials):
        spread = 0.15 if number < len(STARTS) else 0.3 / (1 + number / 12)
        place = np.clip(np.mean(middles, axis=0) + spread * draw.normal(0, 1, count), 0.1, 1)
        found.append(_trial(number, place, middles, sets, spans, draw, found, bool(pareto)))
    found = [t.model_copy(update={"lost": 0.03}) if t.number in lost else t for t in found]
    whole = [trial for trial in found if trial.is_whole and trial.is_feasible]
    best = None if pareto else min(whole, key=lambda t: t.value or 0.0, default=None)
    spent = sum(trial.share for trial in found)
    ended = {} if best is None else _ended(best, sets)
    return SearchEntry(**{
        "sampler": "nsga2" if pareto else "tpe" if methods else "cmaes", "engine": "local",
        "study": "merged", "storage": "merged.search.log", "asked": trials, "dimensions": spans,
        "aim": f"maximum over {', '.join(sets)} of the loss minus that of the best model there"
        if len(sets) > 1 and not pareto else "",
        "aims": list(sets) if pareto else [], "trials": found, "evaluations": spent,
        "saved": len(found) - spent, "documents": 180, "importance": _importance(spans, trials),
        "front": _front(whole) if pareto else [], **ended, **changes,
    })  # fmt: skip


def _trial(
    number: int, place: Any, middles: Any, sets: Sequence[str], spans: Sequence[DimensionEntry],
    draw: Any, before: Sequence[TrialEntry], pareto: bool,
) -> TrialEntry:  # fmt: skip
    """A trial that counts by the squared distance from every set's best place."""
    rises = [float(0.1 + ((place - middle) ** 2).sum()) for middle in middles]
    least = min((t.value for t in before if t.value is not None and t.is_whole), default=9.0)
    value = max(rises) if len(sets) > 1 else 2.0 + rises[0]
    stopped = not pareto and value > least + 4 * HALF
    values: dict[str, float | str] = dict(
        zip([d.name for d in spans], map(float, place), strict=False)
    )
    if spans[-1].labels:
        values["merge_method"] = spans[-1].labels[int(draw.integers(2))]
        values = {k: v for k, v in values.items()
                  if values["merge_method"] == "ties" or "density" not in k}  # fmt: skip
    half = HALF * (2 if stopped else 1)
    told = {} if pareto else {"value": value, "low": value - half, "high": value + half}
    return TrialEntry(
        number=number, values=values, **told, stopped=stopped, share=0.3 if stopped else 1.0,
        by_set=dict(zip(sets, rises, strict=True)) if len(sets) > 1 else {}, seconds=2.0,
        title=STARTS[number] if number < len(STARTS) else "",
    )  # fmt: skip


def _importance(spans: Sequence[DimensionEntry], trials: int) -> dict[str, float]:
    """Shares that halve; none of few trials."""
    shares = [0.5**i for i in range(len(spans))]
    return (
        {d.name: s / sum(shares) for d, s in zip(spans, shares, strict=True)} if trials > 4 else {}
    )


def _front(found: Sequence[TrialEntry]) -> list[int]:
    """Numbers of trials that no other is at least as good as on every set."""
    places = {trial.number: list(trial.by_set.values()) for trial in found}
    return [
        number for number, own in places.items()
        if not any(other != own and all(o <= v for o, v in zip(other, own, strict=True))
                   for other in places.values())
    ]  # fmt: skip


def _ended(best: TrialEntry, sets: Sequence[str]) -> dict[str, Any]:
    """What the best one counts on both halves, and what it is held against."""
    chosen = max(best.by_set.values()) if best.by_set else (best.value or 0.0) - 2.0  # type: ignore[type-var]
    against = [("default recipe", "", -0.05), ("uniform soup", "", -0.03),
               ("best parent", "demo/prose", -0.2)]  # fmt: skip
    return {
        "best": best.number, "taken": best.number,
        "selection": Estimate(**estimated(chosen, HALF)),
        "report": Estimate(**estimated(chosen + 0.012, HALF)),
        "optimism": Estimate(**estimated(0.012, 1.4 * HALF)),
        "references": [
            ReferenceEntry(
                title=title, model=model, difference=Estimate(**estimated(value, 0.02)), limit=0.04,
                sets={name: ReferenceSetEntry(loss=2.0 + i, difference=Estimate(
                    **estimated(value + 0.01 * i, 0.02))) for i, name in enumerate(sets)},
            )
            for title, model, value in against
        ],
        "better_than_default": True,
    }  # fmt: skip


def search_report(search: SearchEntry, sets: Sequence[str] = ("docs", "code")) -> Report:
    """The report of a search that wrote what it found, or found a front."""
    entries = {name: one_set((-0.03 * (1 + i), 0.02)) for i, name in enumerate(sets)}
    made = report_on(entries, search=search)
    assert isinstance(made.result, MergeMeasurements)
    if search.taken is not None:
        return made.model_copy(update={"command": "search"})
    losses = [entry for entry in made.result.losses if entry.role == "parent"]
    alone = {
        name: SetEntry(data=one.data, losses=[e for e in one.losses if e.role == "parent"])
        for name, one in made.result.sets.items()
    }
    result = SearchMeasurements(search=search, losses=losses, sets=alone)
    return made.model_copy(update={"command": "search", "output": None, "result": result})
