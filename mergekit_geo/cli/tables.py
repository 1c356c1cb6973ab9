"""A report as tables on stdout."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mergekit_geo.cli.session import printable
from mergekit_geo.reports.schema import (
    CheckMeasurements,
    Geometry,
    MergeMeasurements,
    Report,
)
from mergekit_geo.reports.tables import loss_rows, verdict

WIDE = 160


def print_report(report: Report) -> None:
    """Tables and verdict on stdout, warnings on stderr."""
    errors = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
    for warning in report.warnings:
        errors.print(printable(f"warning: {warning}"), markup=False)
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, emoji=False, width=WIDE)
    if isinstance(report.result, MergeMeasurements):
        _print_merge(console, report, report.result)
    elif isinstance(report.result, CheckMeasurements):
        _print_check(console, report, report.result)


def _print_merge(console: Console, report: Report, result: MergeMeasurements) -> None:
    if result.geometry is not None and len(report.models) > 1:
        console.print(_geometry_table(report, result.geometry))
    if report.data is not None:
        data = report.data
        console.print(
            f"loss on {data.source}: {data.tokens} tokens, {data.examples} windows, "
            f"{data.documents} documents; [..] 95 % intervals over documents, paired in the last "
            "column",
            markup=False,
        )
        head = ("model", "loss, nats per token", "perplexity", "output minus it")
        console.print(_table(head, loss_rows(report)))
        console.print(verdict(report), markup=False)
    branches = ", ".join(f"{count} {name}" for name, count in result.coefficients.branches.items())
    console.print(f"tensors: {branches}", markup=False)
    for item in report.not_measured:
        command = f"; {item.command}" if item.command else ""
        console.print(f"not measured: {item.what} ({item.why}{command})", markup=False)
    console.print(f"written to {report.output}", markup=False)


def _geometry_table(report: Report, geometry: Geometry) -> Table:
    rows = [
        (
            report.models[pair.first].name,
            report.models[pair.second].name,
            "undefined" if pair.cosine is None else f"{pair.cosine:.6f}",
            f"{pair.distance:.4g}",
            f"{geometry.total.norms[pair.first]:.4g}, {geometry.total.norms[pair.second]:.4g}",
        )
        for pair in geometry.total.pairs
    ]
    return _table(("model", "model", "cosine", "distance", "norms"), rows)


def _print_check(console: Console, report: Report, result: CheckMeasurements) -> None:
    for note in result.notes:
        console.print(printable(f"note: {note}"), markup=False)
    for problem in result.problems[:10]:
        console.print(printable(f"problem: {problem}"), markup=False)
    if len(result.problems) > 10:  # noqa: PLR2004
        console.print(f"... and {len(result.problems) - 10} more (--json has all)", markup=False)
    names = ", ".join(model.name for model in report.models)
    verdict = "can be merged" if result.compatible else "cannot be merged"
    console.print(f"{names}: {verdict} ({result.tensors} tensors)", markup=False)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(head):
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
