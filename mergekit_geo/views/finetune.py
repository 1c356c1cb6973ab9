"""One model that was fine-tuned, and several that were from one."""

from __future__ import annotations

from mergekit_geo.records.report import Report
from mergekit_geo.records.training import FinetuneMeasurements, MembersMeasurements, TrainingEntry
from mergekit_geo.views.barrier_sets import barrier_files_of, barriers_of
from mergekit_geo.views.block import Block, Code, Folded, Items, Paragraph, Section, Table, View
from mergekit_geo.views.flatness import flatness
from mergekit_geo.views.losses import describe_data, estimate, with_interval
from mergekit_geo.views.sets import brief_losses, measured_section
from mergekit_geo.views.sharpness import sharpness_section
from mergekit_geo.views.verdict import verdict_lines

KINDS = {"sam": "SAM", "momentum": "momentum-SAM", "look": "LookSAM"}


def view(report: Report, found: FinetuneMeasurements) -> View:
    """View of a fine-tuned model: its training, and itself beside the model it was before."""
    history = "\n".join(f"step {step}: {loss:.4f}" for step, loss in found.training.history)
    blocks = [
        Section("Training", [
            Items(training_lines(found.training)), Folded("training loss", [Code(history, "")]),
        ]),
        measured_section("Losses before and after", report),
        Section("From before to after", barriers_of(
            report, found, "from before to after", 1.0
        )),
        sharpness_section(found.sharpness, report.data, found.sets),
    ]  # fmt: skip
    headline = [*verdict_lines(report), flatness(found.sharpness)]
    brief = [f"{report.models[0].name}, fine-tuned -> {report.output}", *brief_losses(report)]
    files = barrier_files_of(found)
    return View([text for text in headline if text], blocks, files, brief)


def members_view(report: Report, found: MembersMeasurements) -> View:
    """View of several fine-tuned models: each of them, and the command that averages them."""
    training = Items(training_lines(found.members[0].measured.training))
    blocks: list[Block] = [
        Paragraph(f"Measured on {describe_data(report.data)}." if report.data else ""),
        _members_table(found),
        training,
        Paragraph("To average them:"),
        Code(found.soup),
    ]
    return View([f"{len(found.members)} members, ready to average."], [Section("Members", blocks)])


def _members_table(found: MembersMeasurements) -> Table:
    """Members by seed, with losses and sharpness before and after."""
    head = ["member", "seed", "training loss", "loss before", "after", "after minus before"]
    rows = [
        [
            member.folder,
            str(member.seed),
            f"{member.measured.training.history[-1][1]:.4f}",
            *([with_interval(entry) for entry in member.measured.losses] or ["", ""]),
            *([estimate(entry) for entry in member.measured.differences] or [""]),
            *[f"{entry.extremes.largest.value:.4g}" for entry in member.measured.sharpness],
        ]
        for member in found.members
    ]
    sharp = ["λ_max before", "after"] if len(rows[0]) > len(head) else []
    return Table([*head, *sharp], rows)


def training_lines(found: TrainingEntry) -> list[str]:
    """How a model was trained, in words."""
    first, last = found.history[0], found.history[-1]
    examples = f"{found.batches} x {found.batch_size} examples"
    share = examples if found.batch_size else f"{found.batches} batches of the caller's"
    adapters = f" in adapters of rank {found.lora_rank}" if found.lora_rank else ""
    lines = [
        f"{found.optimizer}, {found.steps} steps of {share} ({found.epochs:.2f} epochs), learning "
        f"rate {found.learning_rate:.3g}",
        f"{found.trained:,} weights{adapters} trained in float32, stored in the output's dtype",
        f"training loss {first[1]:.4f} up to step {first[0]}, {last[1]:.4f} at step {last[0]}",
        _ascent(found),
    ]
    if found.skipped:
        lines.append(f"{found.skipped} steps were skipped: a loss or gradient was not finite")
    return lines


def _ascent(found: TrainingEntry) -> str:
    if not found.rho:
        return f"SAM off (rho 0); {found.passes} backward passes"
    kind = ("adaptive " if found.adaptive else "") + KINDS[found.variant]
    often = "every step" if found.every == 1 else f"every {found.every} steps"
    return (
        f"{kind}, rho {found.rho:g}, {often}, {found.mode} ascent: {found.ascents} ascents, "
        f"{found.passes} backward passes"
    )
