"""The model card of an output: front matter, then what its report's view has, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mergekit_geo.config.data import BUILTINS
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.views.amount import listed
from mergekit_geo.views.block import Block, Code, Items, Paragraph, Section
from mergekit_geo.views.card_data import TASKS, front_matter, model_name, public, task_of
from mergekit_geo.views.made import called, commits_of, made
from mergekit_geo.views.markdown import escape, render
from mergekit_geo.views.skills import sets_of
from mergekit_geo.views.view import not_measured, view_of

WRITING = """inputs = tokenizer("The", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=40)[0]))"""
"""How a language model is tried out."""

SHOWN = ("Losses", "Losses before and after", "Search", "What was chosen", "Training", "Escape")
"""Sections of a view that a card has; the page has all."""


def model_card(report: Report) -> str:
    """A model card: front matter, origin, what was measured, how to load it.

    Args:
        report: Of a merge, or of fine-tuning one model.
    """
    told = public(report)
    view, how = view_of(told), made(report)
    blocks: list[Block] = [
        Paragraph(" ".join(filter(None, [_origin(report), *view.headline, view.last]))),
        *(block for block in view.blocks if isinstance(block, Section) and block.title in SHOWN),
        Section("How it was made", how),
        Section("How to use it", usage(report)),
        Section("Limits", [Items(_caveats(report))]),
        not_measured(told),
        Paragraph("report.html shows all the evidence, with pictures; report.json holds every "
                  f"number and setting{', merge.json the merge tensor by tensor' if how else ''}."),
    ]  # fmt: skip
    return f"{front_matter(report)}\n\n# {escape(model_name(report))}\n\n{render(blocks)}\n"


def _origin(report: Report) -> str:
    """What it was made from, and by what."""
    parents = [model for model in report.models if model.role == "parent"]
    if not isinstance(report.result, MergeMeasurements):
        (base,) = parents
        commit = f" at commit {commits_of(base)}" if commits_of(base) else ""
        how = "after geo-merge escape of" if report.command == "escape" else "fine-tuned with"
        return f"{called(base)}{commit}, {how} mergekit_geo."
    if len(parents) == 1:
        return "One model copied with mergekit_geo."
    method = report.result.coefficients.method
    return f"{len(parents)} models merged by {method} with mergekit_geo."


def _caveats(report: Report) -> list[str]:
    """What a reader must know before relying on the numbers."""
    sets = sets_of(report).values()
    every = [one.data for one in sets] or ([report.data] if report.data else [])
    texts = [text for data in every if (text := BUILTINS.get(data.source))]
    little = f"Loss was measured on {listed(texts)}: it says little about other text."
    return [*report.warnings, *([little] if texts and len(texts) == len(every) else [])]


def usage(report: Report) -> list[Code]:
    """Python that loads the output; none where nothing known does.

    Args:
        report: Of a merge.
    """
    architecture = report.models[0].architecture if report.models else None
    if report.models and (loader := report.models[0].loader):
        library = str(report.models[0].library).replace("-", "_")
        way = ".from_pretrained" if library == "diffusers" else ""
        made = f"model = {loader}{way}({_quoted(report)}{_trust(report)})"
        return [Code(f"from {library} import {loader}\n\n{made}", "python")]
    if architecture is None:
        path = f'{_quoted(report)} + "/model.safetensors"'
        text = f"from safetensors.torch import load_file\n\nstate = load_file({path})"
        return [Code(text, "python")]
    task = task_of(report)
    end, _ = TASKS.get(task, ("", ""))
    if task not in TASKS and not architecture.isidentifier():
        return []
    inputs = "AutoImageProcessor" if "Image" in end else "AutoTokenizer"
    classes = [f"AutoModel{end}", inputs] if task in TASKS else [architecture]
    said = [_loading(report, classes), *([WRITING] if "CausalLM" in end else [])]
    return [Code("\n\n".join(said), "python")]


def _loading(report: Report, classes: Sequence[str]) -> str:
    extra = _trust(report)
    names = ("model", "processor" if "Image" in classes[-1] else "tokenizer")
    lines = [f"from transformers import {', '.join(classes)}", ""]
    lines += [
        f"{name} = {kind}.from_pretrained({_quoted(report)}{extra})"
        for name, kind in zip(names, classes, strict=False)
    ]
    return "\n".join(lines)


def _trust(report: Report) -> str:
    compute = report.settings.get("compute") or {}
    return ", trust_remote_code=True" if compute.get("trust_remote_code") else ""


def _quoted(report: Report) -> str:
    return json.dumps(model_name(report), ensure_ascii=False)
