"""The model card of an output, drawn from its report."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mergekit_geo.reports.schema import MergeMeasurements, ModelEntry, Report
from mergekit_geo.reports.sharpness import CAVEATS
from mergekit_geo.reports.tables import (
    BARRIER_HEAD,
    barrier_rows,
    describe_data,
    describe_sharpness,
    loss_table,
    sharpness_table,
)

HUB_ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(@.+)?")


def model_card(report: Report) -> str:
    """Front matter, parents, recipe and losses, as Markdown.

    Args:
        report: Of a merge.
    """
    assert isinstance(report.result, MergeMeasurements)
    parts = [
        _front_matter(report.models),
        "# Merged model",
        f"{len(report.models)} models merged by `{report.result.coefficients.method}` with "
        "[mergekit_geo](https://pypi.org/project/mergekit_geo).",
        _parents(report.models, report.result.coefficients.weights),
        _losses(report),
        _barriers(report.result),
        _sharpness(report),
        *(f"Not measured: {item.what}: {_escape(item.why)}." for item in report.not_measured),
        "`merge.json` holds the recipe tensor by tensor, `report.json` every number.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(models: Sequence[ModelEntry]) -> str:
    from huggingface_hub import ModelCardData

    parents = [found[1] for model in models if model.revision and (found := _hub_id(model))]
    data = ModelCardData(
        library_name="transformers",
        tags=["merge", "mergekit_geo"],
        base_model=parents or None,
    )
    if parents:
        data["base_model_relation"] = "merge"
    return f"---\n{data.to_yaml()}\n---"


def _hub_id(model: ModelEntry) -> re.Match[str] | None:
    return HUB_ID.fullmatch(model.name)


def _parents(models: Sequence[ModelEntry], weights: Sequence[float]) -> str:
    rows = [
        (_escape(model.name), model.revision or "", f"{weight:.4g}")
        for model, weight in zip(models, weights, strict=True)
    ]
    return _table(("parent", "revision", "weight"), rows)


def _losses(report: Report) -> str:
    head, rows = loss_table(report)
    if not rows or report.data is None:
        return ""
    about = (
        f"Measured on {_escape(describe_data(report.data))}. Intervals are 95 % over documents; "
        "the last column is paired."
    )
    return about + "\n\n" + _table(head, [(_escape(row[0]), *row[1:]) for row in rows])


def _barriers(result: MergeMeasurements) -> str:
    if not result.barriers:
        return ""
    rows = [(_escape(r[0]), _escape(r[1]), *r[2:]) for r in barrier_rows(result.barriers)]
    return "Loss barriers between the parents:\n\n" + _table(BARRIER_HEAD, rows)


def _sharpness(report: Report) -> str:
    assert isinstance(report.result, MergeMeasurements)
    entries = report.result.sharpness
    if not entries:
        return ""
    lines = describe_sharpness(entries, report.data.unit if report.data else "example")
    head, rows = sharpness_table(entries)
    verdicts = [f"- {_escape(e.model)}: {_escape(e.stationarity.sentence)}" for e in entries]
    return "\n\n".join(
        [
            "## Sharpness",
            _escape(lines[0]),
            _table([_escape(name) for name in head], [(_escape(r[0]), *r[1:]) for r in rows]),
            "\n".join(verdicts + [f"- {_escape(line)}" for line in lines[1:]]),
            "\n".join(f"> {_escape(caveat)}" for caveat in CAVEATS),
        ]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escape(text: str) -> str:
    """Text from outside, without power over Markdown or HTML."""
    flat = " ".join(text.split())
    return (
        re.sub(r"([\\`*\[\]<>|&#!])", r"\\\1", flat).replace("\\<", "&lt;").replace("\\>", "&gt;")
    )
