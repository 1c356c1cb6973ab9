"""The front matter of a model card: what the Hub reads, drawn from the report."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from mergekit_geo.config.data import BUILTINS
from mergekit_geo.printable import printable
from mergekit_geo.records.escape import EscapeMeasurements
from mergekit_geo.records.losses import DataEntry, LossEntry
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.model import ModelEntry, common_license
from mergekit_geo.records.report import Report
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.views.losses import WITH_OUTPUT, rescaled

BENCHMARK = "lm-eval"
"""What tasks of lm-evaluation-harness are measured as; their notes hold shots and versions."""

LOCAL_TASK = re.compile(r"\.ya?ml\b")
"""What a source that names a file has."""

PLAIN = re.compile(r"[a-z0-9][a-z0-9.-]*")
LIBRARY = "mergekit_geo"
UNPUBLISHED = "unpublished"
"""Type of a dataset that is not on the Hub, where a file's name may be somebody's dataset."""

TASKS = {
    "causal-lm": ("ForCausalLM", "text-generation"),
    "seq2seq-lm": ("ForSeq2SeqLM", "text-generation"),  # the Hub's own tag for it was given up
    "masked-lm": ("ForMaskedLM", "fill-mask"),
    "sequence-classification": ("ForSequenceClassification", "text-classification"),
    "token-classification": ("ForTokenClassification", "token-classification"),
    "image-classification": ("ForImageClassification", "image-classification"),
    BENCHMARK: ("", "text-generation"),
    "sentence-similarity": ("", "sentence-similarity"),
    "zero-shot-image-classification": (
        "ForZeroShotImageClassification",
        "zero-shot-image-classification",
    ),
    "image-text-to-text": ("ForImageTextToText", "image-text-to-text"),
}
"""How transformers' classes for a task end, and the Hub's pipeline tag of it."""

CHOSEN = ("greedy", "learned")
"""Methods of a soup that say more than its rule."""

SCALES = ("perplexity", "perplexity"), ("bits_per_byte", "bits per byte")
"""Type and name of what a loss is told as beside nats: per token, and per byte."""

DIGITS = 6


def front_matter(report: Report) -> str:
    """The front matter as YAML between `---` lines, with names from outside quoted.

    Args:
        report: Of a merge, or of fine-tuning one model.
    """
    return f"---\n{card_data(report).to_yaml()}\n---"


def card_data(report: Report) -> ModelCardData:
    """What the Hub reads."""
    parents = hub_parents(report.models)
    results = eval_results(report)
    task = task_of(report)
    data = ModelCardData(
        base_model=parents or None,
        library_name=_library(report),
        pipeline_tag=TASKS[task][1] if task in TASKS else None,
        tags=_tags(report),
        model_name=model_name(report) if results else None,
        eval_results=results or None,
        **_license(report.models),
    )
    if parents:
        merged = isinstance(report.result, MergeMeasurements)
        data["base_model_relation"] = "merge" if merged else "finetune"
    return data


def _library(report: Report) -> str | None:
    """The library that loads the output."""
    return report.models[0].library if report.models else None


def task_of(report: Report) -> str:
    """What loss was measured as, else what the architecture is called after; empty if neither."""
    if report.data is not None and report.data.task:
        return report.data.task
    name = (_architecture(report) or "").replace("LMHeadModel", "ForCausalLM")
    return next((task for task, (end, _) in TASKS.items() if end and name.endswith(end)), "")


def model_name(report: Report) -> str:
    """The repository that the output is pushed to, if that was asked for, else its folder."""
    asked = report.settings.get("output") or {}
    return asked.get("push_to") or printable(PurePath(report.output or "").name) or "merged"


def hub_parents(models: Sequence[ModelEntry]) -> list[str]:
    """Repositories among the parents, each once."""
    found = [source.hub_id for model in models for source in model.origins]
    return list(dict.fromkeys(place.repo for place in found if place))


def eval_results(report: Report) -> list[EvalResult]:
    """What was measured of the output; empty where nothing was."""
    if report.data is None or not isinstance(report.result, WITH_OUTPUT):
        return []
    sets = {name: (one.data, one.losses) for name, one in report.result.sets.items()}
    return [
        result
        for name, (data, losses) in (sets or {"": (report.data, report.result.losses)}).items()
        for entry in losses
        if entry.role == "output"
        for result in _results(entry, data, name)
    ]


def _results(entry: LossEntry, data: DataEntry, name: str) -> list[EvalResult]:
    """What was measured of the output on one set; the set has a name where there are several."""
    _, kind_of_task = TASKS.get(data.task, ("", data.task or "other"))
    ends = {"low": entry.low, "high": entry.high}
    known = {end: round(value, DIGITS) for end, value in ends.items() if value is not None}
    interval = {"interval_95": known} if known else None
    measured: list[tuple[str, str, float | None, dict[str, Any] | None]] = [
        ("loss", f"loss per {data.unit}", entry.loss, interval),
        (*SCALES[data.unit == "byte"], rescaled(entry, data), None),
        (_metric_type(data.metric), data.metric, entry.metric, None),
        ("f1", "macro-F1", entry.macro_f1, None),
    ]
    dataset = f"{name}: {dataset_name(data)}" if name else dataset_name(data)
    return [
        EvalResult(
            task_type=kind_of_task,
            dataset_type=dataset_type(data),
            dataset_name=dataset,
            dataset_config=name or None,  # the Hub's client joins what differs in its name alone
            metric_type=kind,
            metric_name=called or "score",
            metric_value=round(value, DIGITS),
            metric_args=arguments,
        )
        for kind, called, value, arguments in measured
        if value is not None and math.isfinite(value)
    ]


def dataset_type(data: DataEntry) -> str:
    """What the Hub takes for the id of a dataset: one that is there, or that it is none.

    Example:
        >>> local = DataEntry(
        ...     source="org/held.jsonl", digest="", documents=9, examples=9, available=9, tokens=9,
        ...     seq_len=9, seed=0)
        >>> dataset_type(local), dataset_type(local.model_copy(update={"repository": "org/texts"}))
        ('unpublished', 'org/texts')
    """
    return data.repository or UNPUBLISHED


def dataset_name(data: DataEntry) -> str:
    """Describe the data without local paths."""
    half = ", report half" if data.half else ""
    return f"{_public_source(data)} ({data.documents} documents{half})"


def public(report: Report) -> Report:
    """Copy of a report for a model card, without local paths."""
    data = report.data and _public_data(report.data)
    missing = [item.model_copy(update={"command": ""}) for item in report.not_measured]
    changes: dict[str, Any] = {"data": data, "not_measured": missing}
    if isinstance(report.result, WITH_OUTPUT) and report.result.sets:
        sets = {
            name: one.model_copy(update={"data": _public_data(one.data)})
            for name, one in report.result.sets.items()
        }
        changes["result"] = report.result.model_copy(update={"sets": sets})
    return report.model_copy(update=changes)


def _public_data(data: DataEntry) -> DataEntry:
    notes = data.notes if data.task == BENCHMARK else []
    return data.model_copy(update={"source": _public_source(data), "notes": notes})


def _public_source(data: DataEntry) -> str:
    """A dataset of the Hub or a built-in text by name, all else by its content."""
    by_name = data.task == BENCHMARK and not LOCAL_TASK.search(data.source)
    if by_name or data.repository or data.source in BUILTINS:
        return data.source
    return f"unpublished data of SHA-256 {data.digest[:12]}" if data.digest else "unpublished data"


def _metric_type(name: str) -> str:
    """The last word of a metric's name: next-token accuracy is an accuracy."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower().rpartition(" ")[2]).strip("_") or "score"


def _tags(report: Report) -> list[str]:
    """The command and the rule; the Hub takes plain words."""
    if isinstance(report.result, EscapeMeasurements):
        return [LIBRARY, report.command]
    if isinstance(report.result, FinetuneMeasurements):
        return [LIBRARY, report.command, *(["sam"] if report.result.training.rho else [])]
    assert isinstance(report.result, MergeMeasurements)
    kinds = [report.command, report.result.coefficients.method]
    method = report.settings.get("method")
    kinds += [method] if method in CHOSEN else []
    plain = [re.sub(r"[^\w-]+", "-", kind).strip("-") for kind in kinds]
    return list(dict.fromkeys(["merge", LIBRARY, *filter(None, plain)]))


def _license(models: Sequence[ModelEntry]) -> dict[str, Any]:
    """License of the parents, where all state the same; else none, and the card says why.

    The Hub knows licenses by plain ids, and refuses a card with anything else.
    """
    found = common_license(models)
    if found is None:
        return {}
    ids = found.id.split(", ")
    if not all(PLAIN.fullmatch(part) for part in ids):
        return {"license": "other", "license_name": _plain(found.id.lower())}
    link = found.link if found.link and "://" in found.link else None
    keys = {"license_name": found.name and _plain(found.name.lower()), "license_link": link}
    return {"license": ids if len(ids) > 1 else ids[0]} | {k: v for k, v in keys.items() if v}


def _plain(text: str) -> str:
    """A word of letters, digits, dots and hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", text).strip("-.") or "unnamed"


def _architecture(report: Report) -> str | None:
    return report.models[0].architecture if report.models else None
