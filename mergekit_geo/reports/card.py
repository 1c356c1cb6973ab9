"""The model card of an output, drawn from its report."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mergekit_geo.reports.schema import MergeMeasurements, ModelEntry, Report
from mergekit_geo.reports.tables import loss_rows

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
    rows = loss_rows(report)
    if not rows or report.data is None:
        return ""
    data = report.data
    about = (
        f"Next-token loss in nats per token on {_escape(data.source)}: {data.tokens} tokens in "
        f"{data.examples} windows of up to {data.seq_len} from {data.documents} documents. "
        "Intervals are 95 %, documents resampled; the last column is paired."
    )
    head = ("model", "loss", "perplexity", "output minus it")
    return about + "\n\n" + _table(head, [(_escape(r[0]), *r[1:]) for r in rows])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escape(text: str) -> str:
    """Text from outside, without power over Markdown or HTML."""
    flat = " ".join(text.split())
    return (
        re.sub(r"([\\`*\[\]<>|&#!])", r"\\\1", flat).replace("\\<", "&lt;").replace("\\>", "&gt;")
    )
