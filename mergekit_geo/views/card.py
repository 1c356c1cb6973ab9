"""The model card of an output, drawn from its report."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.config.data import BUILTIN
from mergekit_geo.records.curvature import CAVEATS
from mergekit_geo.records.merge import MergeCoefficients, MergeMeasurements
from mergekit_geo.records.model import ModelEntry, SourceEntry
from mergekit_geo.records.report import Report
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.views.again import command_again
from mergekit_geo.views.card_data import HUB_ID, front_matter, model_name, public_data
from mergekit_geo.views.headline import summary
from mergekit_geo.views.licenses import common_license, license_name
from mergekit_geo.views.markdown import code, escape, table
from mergekit_geo.views.tables import (
    BARRIER_HEAD,
    WITH_OUTPUT,
    barrier_rows,
    describe_barriers,
    describe_data,
    describe_sharpness,
    loss_table,
    sharpness_table,
)
from mergekit_geo.views.usage import usage

PAGE = "https://huggingface.co"
PROJECT = "`mergekit_geo`"


def model_card(report: Report) -> str:
    """Front matter, parents, recipe, what was measured, and how to load it, as Markdown.

    Args:
        report: Of a merge.
    """
    assert isinstance(report.result, MergeMeasurements)
    parts = [
        front_matter(report),
        f"# {escape(model_name(report))}",
        _headline(report),
        section("How to load it", usage(report)),
        section("Parents", _parents(report, report.result), _license(report.models)),
        section("Recipe", _recipe(report)),
        section("Losses", *losses_parts(report)),
        section("Barriers between the parents", *barriers_parts(report.result)),
        section("Sharpness", *sharpness_parts(report)),
        section("Caveats", caveats(report)),
        "`merge.json` holds the recipe tensor by tensor, `report.json` every number.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def section(title: str, *parts: str) -> str:
    """Join the parts of a section under its title; empty if all parts are."""
    kept = [part for part in parts if part]
    return "\n\n".join([f"## {title}", *kept]) if kept else ""


def _headline(report: Report) -> str:
    assert isinstance(report.result, MergeMeasurements)
    kind = report.result.coefficients.method
    parents = [model for model in report.models if model.role == "parent"]
    count = "One model" if len(parents) == 1 else f"{len(parents)} models"
    done = "copied" if len(parents) == 1 else f"merged by `{kind}`"
    what = f"{count} {done} with {PROJECT}."
    return " ".join([what, *map(escape, summary(report))])


def _parents(report: Report, result: MergeMeasurements) -> str:
    rows = [
        (called(model), commits(model), license_name(model), weight)
        for model, weight in zip(report.models, _weights(result.coefficients), strict=True)
    ]
    sources = [source for model in report.models for source in model.sources]
    links = list(dict.fromkeys(page for source in sources if (page := _page(source))))
    found = table(("parent", "commit", "licence", "weight"), rows)
    return "\n\n".join([found, *(["Commits: " + ", ".join(links) + "."] if links else [])])


def _weights(found: MergeCoefficients) -> list[str]:
    """Weights as applied, and the share of elements that they were applied to."""
    shares = found.kept or [None] * len(found.weights)
    return [
        f"{weight:.4g}" + ("" if share is None else f" of {share:.1%}")
        for weight, share in zip(found.weights, shares, strict=True)
    ]


def called(model: ModelEntry) -> str:
    """A model's name, with that of its base where the name does not include it."""
    if model.base is None or model.name.startswith(f"{model.base.name}+"):
        return model.name
    return f"{model.name} (an adapter of {model.base.name})"


def commits(model: ModelEntry) -> str:
    """Commits on the Hub: of the model, or of base and adapter."""
    return " + ".join(source.revision for source in model.sources if source.revision)


def _page(source: SourceEntry) -> str:
    """A link to the commit of a parent on the Hub."""
    match = HUB_ID.fullmatch(source.name) if source.revision else None
    return f"[{escape(match[1])}]({PAGE}/{match[1]}/tree/{source.revision})" if match else ""


def _license(models: Sequence[ModelEntry]) -> str:
    found = common_license(models)
    if found is not None:
        return f"Every parent's card states the licence {escape(found.name or found.id)}."
    if any(model.license for model in models):
        return (
            "**The parents' licences are not the same, or not all known**, so this card states "
            "none. Find out what they allow before you pass the model on."
        )
    return "No parent's card states a licence, so this one does not either."


def _recipe(report: Report) -> str:
    if command := command_again(report):
        return f"To make it again, in the folder of this card:\n\n{code(command, 'sh')}"
    return "Made in Python, from models in memory: no command makes it again."


def losses_parts(report: Report) -> list[str]:
    """The table of models; empty where nothing was measured."""
    head, rows = loss_table(report)
    if not rows or report.data is None:
        return []
    measured = escape(describe_data(public_data(report.data)))
    about = (
        f"Measured on {measured}. Intervals are 95 % over documents; "
        "those of differences are paired."
    )
    return [about, table(head, rows)]


def barriers_parts(
    result: MergeMeasurements | FinetuneMeasurements, shown: str = "between the parents"
) -> list[str]:
    """The table of barriers and their picture; empty where there are none."""
    if not result.barriers:
        return []
    picture = f"![Loss on the way {shown}](figures/barrier.png)"
    caption = describe_barriers(result.barriers)
    about = [f"{caption[:1].upper()}{caption[1:]}."] if caption else []
    return [*about, table(BARRIER_HEAD, barrier_rows(result.barriers)), picture]


def sharpness_parts(report: Report) -> list[str]:
    """Every measure of every model, verdicts and caveats; empty where there are none."""
    assert isinstance(report.result, WITH_OUTPUT)
    entries = report.result.sharpness
    if not entries:
        return []
    lines = describe_sharpness(entries, report.data.unit if report.data else "example")
    verdicts = [f"- {escape(e.model)}: {escape(e.stationarity.sentence)}" for e in entries]
    return [
        escape(lines[0]),
        table(*sharpness_table(entries)),
        "\n".join(verdicts + [f"- {escape(line)}" for line in lines[1:]]),
        "![Sharpness of parents and output](figures/sharpness.png)",
        "\n".join(f"> {escape(caveat)}" for caveat in CAVEATS),
    ]


def caveats(report: Report) -> str:
    """What a reader must know before relying on the numbers."""
    lines = list(report.warnings)
    if report.data is not None and report.data.source == BUILTIN:
        lines.append(
            "Loss was measured on CPython's documentation: it says little about other text."
        )
    lines += [f"Not measured: {item.what}: {item.why}." for item in report.not_measured]
    return "\n".join(f"- {escape(line)}" for line in lines)
