"""Reports on several evaluation sets, made by hand."""

from __future__ import annotations

from typing import Any

from mergekit_geo.records.losses import DataEntry, DifferenceEntry, Estimate, LossEntry
from mergekit_geo.records.merge import MergeCoefficients, MergeMeasurements
from mergekit_geo.records.model import ModelEntry
from mergekit_geo.records.report import Report
from mergekit_geo.records.sets import AcrossSets, OutputSetEntry

Spread = tuple[float, float | None]
"""A value, and half its interval or None for too few documents."""


def estimated(value: float, half: float | None) -> dict[str, Any]:
    """A number, and the interval and the detectable size of a standard error of half of 1.96."""
    if half is None:
        return {"value": value, "low": None, "high": None, "detectable": None}
    return {"value": value, "low": value - half, "high": value + half, "detectable": half / 0.7}


def one_set(
    difference: Spread,
    score: Spread | None = None,
    models: tuple[str, ...] = ("demo/prose", "demo/code"),
    source: str = "x.jsonl",
    **data: Any,
) -> OutputSetEntry:
    """Parents of loss 2, 3, ... and an output that differs so from the first."""
    value, half = difference
    about = {"unit": "token", "metric": "next-token accuracy" if score else "", **data}
    losses = [
        LossEntry(model=name, role="parent", loss=2.0 + i, low=1.8 + i, high=2.2 + i,
                  metric=score and 0.5 - i / 10)
        for i, name in enumerate(models)
    ]  # fmt: skip
    out = LossEntry(model="output", role="output", loss=2 + value, low=1.8 + value,
                    high=2.2 + value, metric=score and 0.5 + score[0])  # fmt: skip
    found = [
        DifferenceEntry(
            model=name, significant=half is not None and abs(value - i) > half,
            metric=score and Estimate(**estimated(score[0] + i / 10, score[1])),
            **estimated(value - i, half),
        )
        for i, name in enumerate(models)
    ]  # fmt: skip
    entry = DataEntry(
        source=source, digest="d" * 64, documents=27, examples=90, available=90, tokens=999,
        seq_len=9, seed=0, task="causal-lm", **about,
    )  # fmt: skip
    return OutputSetEntry(data=entry, losses=[*losses, out], differences=found)


def report_on(sets: dict[str, OutputSetEntry], **changes: Any) -> Report:
    """A merge that was measured on these sets."""
    first = next(iter(sets.values()))
    names = [entry.model for entry in first.losses if entry.role == "parent"]
    differences = {name: one.differences[0].value for name, one in sets.items() if one.losses}
    worst = max(differences, key=lambda name: differences[name], default="")
    across = AcrossSets(
        mean=Estimate(**estimated(sum(differences.values()) / len(differences), 0.05)),
        worst=Estimate(**estimated(differences[worst], 0.05)), worst_set=worst,
    ) if differences else None  # fmt: skip
    result = MergeMeasurements(
        coefficients=MergeCoefficients(method="linear", weights=[0.5, 0.5], branches={}),
        **({"barriers": [], "sharpness": [], "geometry": None, "across": across} | changes),
        losses=first.losses, differences=first.differences,
        sets=sets if len(sets) > 1 else {},
    )  # fmt: skip
    models = [ModelEntry(name=name, revision=None, parameters=1) for name in names]
    return Report(command="soup", output="out", models=models, data=first.data, result=result)
