"""How a merge was made: its parents with their weights, a recipe, a command."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.model import ModelEntry, Source, common_license, license_name
from mergekit_geo.records.report import Report
from mergekit_geo.views.again import AGAIN, command_again, recipe_again
from mergekit_geo.views.block import Block, Code, Link, Paragraph, Table, table
from mergekit_geo.views.card_data import model_name

HUB = "https://huggingface.co"
RECIPE = "merge.yml"
"""What a recipe of a card is to be saved as."""


def made(report: Report) -> list[Block]:
    """What only a merge has: parents with their weights, and how it is made again.

    Args:
        report: Of any command.
    """
    if not isinstance(report.result, MergeMeasurements):
        return []
    command, recipe = command_again(report), recipe_again(report)
    out = f"../{model_name(report).rpartition('/')[2]}{AGAIN}"
    none = "Made in Python, from models in memory: no command makes it again."
    return [
        _parents(report, report.result),
        *_pages(report.models),
        Paragraph(_license(report.models)),
        Paragraph(
            f"As a recipe; saved here as {RECIPE}, it is run by geo-merge run {RECIPE} -o {out}:"
            if recipe
            else ""
        ),
        Code(recipe, "yaml"),
        Paragraph("The command that makes it again, in this folder:" if command else none),
        Code(command),
    ]


def _parents(report: Report, result: MergeMeasurements) -> Table:
    """Parents with their weights as applied, and the share of elements that got them."""
    found = result.coefficients
    shares = found.kept or [None] * len(found.weights)
    weights = [
        f"{weight:.4g}" + ("" if share is None else f" of {share:.1%}")
        for weight, share in zip(found.weights, shares, strict=True)
    ]
    return table({
        "parent": [called(model) for model in report.models],
        "weight": weights or ["by layer" for _ in report.models],
        "commit": [commits_of(model) for model in report.models],
        "license": [license_name(model) for model in report.models],
    })  # fmt: skip


def called(model: ModelEntry) -> str:
    """A model's name, with that of its base where the name does not include it."""
    if model.base is None or model.name.startswith(f"{model.base.name}+"):
        return model.name
    return f"{model.name} (an adapter of {model.base.name})"


def commits_of(model: ModelEntry) -> str:
    """Commits on the Hub: of the model, or of base and adapter."""
    return " + ".join(source.revision for source in model.sources if source.revision)


def _pages(models: Sequence[ModelEntry]) -> list[Link]:
    """Commits of the parents on the Hub, each once."""
    sources = [source for model in models for source in model.origins]
    return list(dict.fromkeys(page for source in sources if (page := _page(source))))


def _page(source: Source) -> Link | None:
    if (place := source.hub_id) is None:
        return None
    below = f"/{place.subfolder}" if place.subfolder else ""
    return Link(str(place.at(None)), f"{HUB}/{place.repo}/tree/{place.revision}{below}")


def _license(models: Sequence[ModelEntry]) -> str:
    found = common_license(models)
    if found is not None:
        return f"Every parent's card states the license {found.name or found.id}."
    if any(model.license for model in models):
        return (
            "The parents' licenses are not the same, or not all known, so this card states none. "
            "Find out what they allow before you pass the model on."
        )
    return "No parent's card states a license, so this one does not either."
