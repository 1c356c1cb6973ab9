"""How an output is loaded, as code in its card."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mergekit_geo.records.report import Report
from mergekit_geo.views.block import Code
from mergekit_geo.views.card_data import TASKS, model_name, task_of


def usage(report: Report) -> list[Code]:
    """Python that loads the output; none where nothing known does.

    Args:
        report: Of a merge.
    """
    architecture = report.models[0].architecture if report.models else None
    if architecture is None:
        path = f'{_quoted(report)} + "/model.safetensors"'
        text = f"from safetensors.torch import load_file\n\nstate = load_file({path})"
        return [Code(text, "python")]
    end, _ = TASKS.get(task_of(report), ("", ""))
    if not end and not architecture.isidentifier():
        return []
    inputs = "AutoImageProcessor" if "Image" in end else "AutoTokenizer"
    classes = [f"AutoModel{end}", inputs] if end else [architecture]
    return [Code(_loading(report, classes), "python")]


def _loading(report: Report, classes: Sequence[str]) -> str:
    compute = report.settings.get("compute") or {}
    extra = ", trust_remote_code=True" if compute.get("trust_remote_code") else ""
    names = ("model", "processor" if "Image" in classes[-1] else "tokenizer")
    lines = [f"from transformers import {', '.join(classes)}", ""]
    lines += [
        f"{name} = {kind}.from_pretrained({_quoted(report)}{extra})"
        for name, kind in zip(names, classes, strict=False)
    ]
    return "\n".join(lines)


def _quoted(report: Report) -> str:
    return json.dumps(model_name(report), ensure_ascii=False)
