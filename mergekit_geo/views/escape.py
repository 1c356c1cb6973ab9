"""The way out of a saddle: what stood at the point, the step along v_min, the descent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from mergekit_geo.records.escape import (
    CriticalEntry,
    DescentEntry,
    EscapeEntry,
    EscapeMeasurements,
    EscapeStep,
)
from mergekit_geo.records.report import Report
from mergekit_geo.views.barrier_sets import barrier_files_of, barriers_of
from mergekit_geo.views.block import Block, Chart, Items, Section, Table, View
from mergekit_geo.views.chart import Dot, Dots, Panel, number
from mergekit_geo.views.losses import estimate
from mergekit_geo.views.scatter import Points, ScatterPanel, Scatters
from mergekit_geo.views.sets import brief_losses, measured_section
from mergekit_geo.views.sharpness import sharpness_section
from mergekit_geo.views.style import style
from mergekit_geo.views.verdict import verdict_lines

BEFORE, AFTER = "before", "after"
WIDTH = 2.0
"""How far the picture of the loss along v_min reaches, in lengths of the step."""
SEEN = 1.5
"""The parabola is drawn down to so many times the fall."""


def view(report: Report, found: EscapeMeasurements) -> View:
    """View of an escape: its verdict, what it rests on, and the model before and after."""
    entry = found.escape
    blocks: list[Block] = [
        Section("Escape", [
            Items([*lines(entry)]), _table(entry), *_charts(entry),
        ]),
        measured_section("Losses before and after", report),
        Section("From before to after", barriers_of(report, found, "from before to after", 1.0)),
        sharpness_section(found.sharpness, report.data, found.sets),
    ]  # fmt: skip
    headline = [f"{said(entry)}.", *(verdict_lines(report) if entry.after else [])]
    brief = [f"{report.models[0].name}: {entry.verdict.sentence}", *brief_losses(report)]
    return View(headline, blocks, barrier_files_of(found), brief)


def said(entry: EscapeEntry) -> str:
    """The verdict as a sentence."""
    text = entry.verdict.sentence
    whole = text[0].upper() + text[1:]
    return whole if entry.after is not None else f"{whole}; the weights are as they were"


def lines(entry: EscapeEntry) -> Iterator[str]:
    """What was done, in words."""
    of = "all" if entry.whole else "a sample of"
    yield (
        f"training loss on {of} {entry.examples:,} examples, {entry.parameters:,} weights; "
        f"Lanczos: at most {entry.lanczos_steps} steps, {entry.before.method} products"
    )
    if entry.before.reason:
        yield f"{entry.before.method}: {entry.before.reason}"
    if entry.before.threshold is not None:
        yield f"a gradient up to a norm of {entry.before.threshold:.3g} counts as none"
    if entry.step is not None:
        yield _step(entry.step)
    if entry.descent is not None:
        yield from _descent(entry.descent)
    if entry.held_out is not None:
        count = entry.held_out_examples
        yield f"held-out loss on {count} examples, after minus before: {estimate(entry.held_out)}"


def _step(found: EscapeStep) -> str:
    text = f"step of {found.length:+.3g} along v_min: training loss {found.change:+.4g}"
    return text if found.held_out is None else f"{text}, held-out loss {estimate(found.held_out)}"


def _descent(found: DescentEntry) -> Iterator[str]:
    name = "SGD" if found.method == "sgd" else "perturbed gradient descent"
    why = "a perturbation had failed" if found.stopped == "time-out" else "steps were used up"
    rates = f"step {found.learning_rate:.3g}"
    if found.last_learning_rate != found.learning_rate:
        rates += f", {found.last_learning_rate:.3g} at the end"
    yield f"{name}: {found.steps} steps, until {why}; {rates}"
    if found.radius is not None:
        yield (
            f"{len(found.perturbed)} perturbations, uniform in a ball of radius "
            f"{found.radius:.3g}; time-out {found.timeout} steps, for a fall of {found.fall:.3g}"
        )


def _table(entry: EscapeEntry) -> Table:
    """The point before and after."""
    points = [(BEFORE, entry.before), *([(AFTER, entry.after)] if entry.after else [])]
    rows = [
        [
            name,
            f"{found.loss:.4f}",
            f"{found.gradient_norm:.3g}",
            f"{found.lambda_min:.3g} ± {found.lambda_min_residual:.1g}",
            f"{found.lambda_max:.3g} ± {found.lambda_max_residual:.1g}",
            f"{found.tau:.2g}",
            str(found.steps),
        ]
        for name, found in points
    ]
    return Table(["", "training loss", "|gradient|", "λ_min", "λ_max", "τ", "Lanczos steps"], rows)


def _charts(entry: EscapeEntry) -> Iterator[Chart]:
    if entry.step is not None:
        picture = _along(entry.step, entry.before)
        yield Chart(picture, "The loss along the eigenvector of λ_min", "along")
    if entry.descent is not None:
        yield Chart(_over_steps(entry.descent), "The training loss over the steps", "descent")
    if entry.after is not None:
        yield Chart(_ends(entry.before, entry.after), "Curvature before and after", "curvature")


def _along(step: EscapeStep, before: CriticalEntry) -> Scatters:
    """Loss along v_min in both directions, beside the parabola of λ_min."""
    furthest = WIDTH * abs(step.length) if step.length else math.inf
    seen = [one for one in step.curve if abs(one.length) <= furthest]
    parabola = [(one.length, before.loss + before.lambda_min * one.length**2 / 2) for one in seen]
    floor = before.loss + min(SEEN * step.change, 0.0)
    kinds = [
        _line("training loss", 0, [(one.length, one.loss) for one in seen]),
        _line("held-out loss", 1, [(one.length, one.held_out) for one in seen]),
        _line("parabola of λ_min", 2, [(x, y) for x, y in parabola if y >= floor]),
    ]
    star = [(one.length, one.loss) for one in seen if one.length == step.length]
    taken = _line("step", 0, star, taken=True)
    panel = ScatterPanel(
        "length along v_min", "loss", [*filter(None, kinds), *filter(None, [taken])]
    )
    rows = [[f"{one.length:.4g}", number(one.loss), number(one.held_out)] for one in seen]
    caption = "Star: the step that was chosen, by the training loss alone."
    return Scatters(
        [panel], (["length along v_min", "training loss", "held-out loss"], rows), caption
    )


def _line(
    name: str, kind: int, pairs: Sequence[tuple[float, float | None]], *, taken: bool = False
) -> Points | None:
    """Points that a line joins; None without any."""
    known = [(x, y) for x, y in pairs if y is not None]
    if not known:
        return None
    x, y = zip(*known, strict=True)
    texts = [f"{name} {height:.5g} at {place:.4g}" for place, height in known]
    return Points(name, style(kind, stands_out=taken), x, y, texts, joined=not taken)


def _over_steps(found: DescentEntry) -> Scatters:
    """Training loss over the steps of the descent."""
    pairs = [(float(step), loss) for step, loss, _ in found.history]
    kinds = [_line("training loss", 0, pairs)]
    if found.perturbed:
        known = dict(pairs)
        kinds.append(_perturbations([float(step) for step in found.perturbed], known))
    panel = ScatterPanel("step", "training loss", [*filter(None, kinds)], counts=True)
    rows = [[str(step), number(loss), f"{slope:.3g}"] for step, loss, slope in found.history]
    return Scatters([panel], (["step", "training loss", "|gradient|"], rows))


def _perturbations(steps: Sequence[float], losses: Mapping[float, float]) -> Points | None:
    """Where a perturbation was added."""
    made = _line("perturbed", 3, [(step, losses.get(step)) for step in steps])
    return made and replace(made, joined=False)


def _ends(before: CriticalEntry, after: CriticalEntry) -> Dots:
    """Extreme eigenvalues and gradient norm before and after."""
    pairs = (before, after)
    panels = [
        Panel("λ_min", [_dot(p.lambda_min, p.lambda_min_residual) for p in pairs], 0.0),
        Panel("λ_max", [_dot(p.lambda_max, p.lambda_max_residual) for p in pairs]),
        Panel("|gradient|", [Dot(p.gradient_norm) for p in pairs]),
    ]
    return Dots([BEFORE, AFTER], [False, True], panels, "Lines: Lanczos residuals to each side.")


def _dot(value: float, residual: float) -> Dot:
    return Dot(value, value - residual, value + residual)
