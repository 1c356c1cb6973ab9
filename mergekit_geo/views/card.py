"""The model card of an output: front matter, then what its report's view has, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mergekit_geo.config.data import BUILTIN
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.model import ModelEntry, Source, common_license, license_name
from mergekit_geo.records.report import Report
from mergekit_geo.views.again import command_again
from mergekit_geo.views.block import Block, Code, Items, Link, Paragraph, Section, Table
from mergekit_geo.views.card_data import HUB_ID, TASKS, front_matter, model_name, public, task_of
from mergekit_geo.views.markdown import escape, render
from mergekit_geo.views.view import not_measured, view_of

HUB = "https://huggingface.co"


def model_card(report: Report) -> str:
    """A model card: front matter, origin, what was measured, how to load it.

    Args:
        report: Of a merge, or of fine-tuning one model.
    """
    told = public(report)
    view, result = view_of(told), report.result
    made = _merged(report, result) if isinstance(result, MergeMeasurements) else []
    blocks = [
        Paragraph(" ".join([_origin(report), *view.headline])),
        Section("How to load it", usage(report)),
        *made,
        *view.blocks,
        not_measured(told),
        Section("Caveats", [Items(_caveats(report))]),
        Paragraph(f"{'merge.json holds the recipe tensor by tensor, ' if made else ''}report.json "
                  "holds every number and setting."),
    ]  # fmt: skip
    return f"{front_matter(report)}\n\n# {escape(model_name(report))}\n\n{render(blocks)}\n"


def _origin(report: Report) -> str:
    """What it was made from, and by what."""
    parents = [model for model in report.models if model.role == "parent"]
    if not isinstance(report.result, MergeMeasurements):
        (base,) = parents
        commit = f" at commit {_commits(base)}" if _commits(base) else ""
        return f"{_called(base)}{commit}, fine-tuned with mergekit_geo."
    if len(parents) == 1:
        return "One model copied with mergekit_geo."
    method = report.result.coefficients.method
    return f"{len(parents)} models merged by {method} with mergekit_geo."


def _merged(report: Report, result: MergeMeasurements) -> list[Block]:
    """What only a merge has: parents, and a command that makes it again."""
    command = command_again(report)
    again = "To make it again, in the folder of this card:"
    none = "Made in Python, from models in memory: no command makes it again."
    return [
        Section("Parents", [
            _parents(report, result), *_pages(report.models), Paragraph(_license(report.models)),
        ]),
        Section("Recipe", [Paragraph(again if command else none), Code(command)]),
    ]  # fmt: skip


def _parents(report: Report, result: MergeMeasurements) -> Table:
    """Parents with their weights as applied, and the share of elements that got them."""
    found = result.coefficients
    shares = found.kept or [None] * len(found.weights)
    weights = [
        f"{weight:.4g}" + ("" if share is None else f" of {share:.1%}")
        for weight, share in zip(found.weights, shares, strict=True)
    ]
    rows = [
        (_called(model), _commits(model), license_name(model), weight)
        for model, weight in zip(report.models, weights, strict=True)
    ]
    return Table(("parent", "commit", "licence", "weight"), rows)


def _called(model: ModelEntry) -> str:
    """A model's name, with that of its base where the name does not include it."""
    if model.base is None or model.name.startswith(f"{model.base.name}+"):
        return model.name
    return f"{model.name} (an adapter of {model.base.name})"


def _commits(model: ModelEntry) -> str:
    """Commits on the Hub: of the model, or of base and adapter."""
    return " + ".join(source.revision for source in model.sources if source.revision)


def _pages(models: Sequence[ModelEntry]) -> list[Link]:
    """Commits of the parents on the Hub, each once."""
    sources = [source for model in models for source in model.sources]
    return list(dict.fromkeys(page for source in sources if (page := _page(source))))


def _page(source: Source) -> Link | None:
    match = HUB_ID.fullmatch(source.name) if source.revision else None
    return Link(match[1], f"{HUB}/{match[1]}/tree/{source.revision}") if match else None


def _license(models: Sequence[ModelEntry]) -> str:
    found = common_license(models)
    if found is not None:
        return f"Every parent's card states the licence {found.name or found.id}."
    if any(model.license for model in models):
        return (
            "The parents' licences are not the same, or not all known, so this card states none. "
            "Find out what they allow before you pass the model on."
        )
    return "No parent's card states a licence, so this one does not either."


def _caveats(report: Report) -> list[str]:
    """What a reader must know before relying on the numbers."""
    builtin = report.data is not None and report.data.source == BUILTIN
    little = "Loss was measured on CPython's documentation: it says little about other text."
    return [*report.warnings, *([little] if builtin else [])]


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
