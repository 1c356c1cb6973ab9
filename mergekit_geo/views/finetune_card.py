"""The model card of a fine-tuned model, drawn from its report."""

from __future__ import annotations

from mergekit_geo.records.report import Report
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.views.card import (
    PROJECT,
    barriers_parts,
    called,
    caveats,
    commits,
    losses_parts,
    section,
    sharpness_parts,
)
from mergekit_geo.views.card_data import front_matter, model_name
from mergekit_geo.views.headline import summary
from mergekit_geo.views.markdown import escape
from mergekit_geo.views.tables import training_lines
from mergekit_geo.views.usage import usage


def finetune_card(report: Report) -> str:
    """Front matter, training, losses before and after, as Markdown.

    Args:
        report: Of fine-tuning one model.
    """
    assert isinstance(report.result, FinetuneMeasurements)
    (base,), result = report.models, report.result
    commit = f" at commit {commits(base)}" if commits(base) else ""
    origin = f"{escape(called(base))}{commit}, fine-tuned with {PROJECT}."
    training = "\n".join(f"- {escape(line)}" for line in training_lines(result.training))
    parts = [
        front_matter(report),
        f"# {escape(model_name(report))}",
        " ".join([origin, *map(escape, summary(report))]),
        section("How to load it", usage(report)),
        section("Training", training),
        section("Losses before and after", *losses_parts(report)),
        section("From before to after", *barriers_parts(result, "from before to after")),
        section("Sharpness", *sharpness_parts(report)),
        section("Caveats", caveats(report)),
        "`report.json` holds every number and setting.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
