"""What to do next, by what was found: one line, with a command where one helps."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from mergekit_geo.records.barrier import BarrierEntry, BarrierMeasurements
from mergekit_geo.records.curvature import SharpnessMeasurements
from mergekit_geo.records.escape import EscapeMeasurements
from mergekit_geo.records.findings import limit_of
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.path import PathMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.search import SearchMeasurements
from mergekit_geo.records.standing import Standing, overall, standings
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.views.amount import listed
from mergekit_geo.views.basins import standing
from mergekit_geo.views.layers import carrier
from mergekit_geo.views.remedies import (
    PAIR,
    SOUP,
    Next,
    around,
    by_layer,
    documents_needed,
    parents,
    then,
    with_layer_weights,
    without_heads,
)
from mergekit_geo.views.search_front import take_command
from mergekit_geo.views.skills import sets_of
from mergekit_geo.views.why import are_heads, parting_layers


def next_step(report: Report) -> Next | None:
    """What to do next, by the report alone; None where nothing suggests itself.

    Args:
        report: Of any command.
    """
    result: Any = report.result
    if getattr(result, "stability", None) is not None:  # its checkpoints are one training
        return None
    found = NEXT.get(type(result))
    return found(report, result) if found else None


def next_line(report: Report) -> str:
    """What to do next as a line; empty where nothing suggests itself."""
    found = next_step(report)
    return found.text if found else ""


def _after_output(report: Report, found: MergeMeasurements | FinetuneMeasurements) -> Next | None:
    """Next step after a merge or a training, by the worst that any set says."""
    every = standings(report)
    words = [one.word if one else "cannot-tell" for one in every.values()]
    if not any(every.values()):
        return None
    word = overall(words)
    if word == "cannot-tell":
        return _more_documents(report, every)
    if word != "worse":
        return _push(report, found)
    if isinstance(found, FinetuneMeasurements):
        return _after_training(report, every)
    return _after_loss(
        report, found, {name: one for name, one in every.items() if one and one.word == "worse"}
    )


def _after_training(report: Report, every: Mapping[str, Standing | None]) -> Next:
    """Next step of a training that lost something: average with the model before, if it gained."""
    lost = [name for name, one in every.items() if one and one.word == "worse"]
    if report.output is None or not any(one and one.word == "better" for one in every.values()):
        return Next("the model before is better: train for fewer --steps, or with a lower --lr")
    command = then(report, "soup", "average", carried=SOUP, more=[report.output])
    return Next(f"average it with the model before, to win back {listed(lost)}", command)


def _push(report: Report, found: MergeMeasurements | FinetuneMeasurements) -> Next | None:
    alone = isinstance(found, MergeMeasurements) and found.unmerged is not None
    if report.output is None or report.pushed is not None or alone:
        return None
    name = PurePath(report.output).name
    return Next("publish it", shlex.join(["geo-merge", "push", report.output, f"YOUR-NAME/{name}"]))


def _after_loss(
    report: Report, found: MergeMeasurements, lost: Mapping[str, Standing]
) -> Next | None:
    """Next step after a merge that is worse: by what parts the parents, else by weights."""
    apart, _ = parting_layers(found.geometry)
    if are_heads(apart):
        return without_heads(apart)
    if group := carrier(found.by_layer):
        return by_layer(report, group)
    barriers = [*found.barriers, *(e for one in found.sets.values() for e in one.barriers)]
    if any(standing(entry) == "barrier" for entry in barriers):
        return around(report)
    if found.layers:
        return Next("train the stack: geo-merge finetune goes on from it")
    return _other_weights(report, found, lost)


def _other_weights(
    report: Report, found: MergeMeasurements, lost: Mapping[str, Standing]
) -> Next | None:
    """Next step without a barrier: more weight for the better parent, or weights chosen by loss."""
    better, names = sorted({one.model for one in lost.values()}), listed(list(lost))
    if found.selection is not None:
        where = f" for {names}" if sets_of(report) else ""
        each = "as it is" if len(better) == 1 else "as they are, each by itself"
        return Next(f"use {listed(better)} {each}{where}, or train one model further")
    if not sets_of(report):
        command = then(report, "soup", "greedy", ["--method=greedy"], SOUP)
        return Next("let the losses choose which models take part", command)
    weights = "" if len(better) > 1 else _heavier(report, found, better[0])
    if weights and not _pulls_elsewhere(report, lost):
        command = then(report, "soup", "weighted", [f"--weights={weights}"], SOUP)
        return Next(f"weight {better[0]} higher, for {names}", command)
    return Next(
        f"let the losses choose weights that lose least on {names}",
        then(report, "soup", "learned", ["--method=learned", "--aim=worst"], SOUP),
    )


def _pulls_elsewhere(report: Report, lost: Mapping[str, Standing]) -> bool:
    """Whether a set of which nothing can be told may lose as much to another parent."""
    least = min(one.difference.value for one in lost.values())
    models = {one.model for one in lost.values()}
    return any(
        one is not None
        and one.word == "cannot-tell"
        and one.difference.value >= least
        and one.model not in models
        for one in standings(report).values()
    )


def _heavier(report: Report, found: MergeMeasurements, better: str) -> str:
    """Weights of two models, halfway to the better one; empty for any other merge."""
    weights, names = found.coefficients.weights, parents(report)
    total = sum(weights)
    is_mean = found.coefficients.method == "linear" and len(weights) == len(names) == PAIR
    if not is_mean or total <= 0:
        return ""
    pairs = zip(names, weights, strict=True)
    return ",".join(f"{(weight / total + (name == better)) / 2:.3g}" for name, weight in pairs)


def _more_documents(report: Report, found: Mapping[str, Standing | None]) -> Next | None:
    """How many documents would tell a difference of 2 % of the loss, on the set that needs most."""
    sets = sets_of(report)
    needs = [
        (_needed(one, data), data, name)
        for name, one in found.items()
        if one and one.word == "cannot-tell"
        and (data := sets[name].data if name in sets else report.data)
    ]  # fmt: skip
    return _measure_more(*max(needs, key=lambda need: need[0])) if needs else None


def _needed(found: Standing, data: DataEntry) -> int:
    return documents_needed(data.documents, found.difference.detectable, limit_of(found.loss))


def _measure_more(needed: int, data: DataEntry, name: str) -> Next:
    of = f" of {name}" if name else ""
    told = (
        f"about {needed} documents{of} in place of {data.documents} would tell a difference of 2 % "
        "of the loss"
    )
    there = data.available / max(data.examples, 1) * data.documents
    if data.available > data.examples and there >= needed:
        return Next(f"{told}; there are as many: add --budget 0, without --max-examples")
    return Next(told)


def _after_barrier(report: Report, found: BarrierMeasurements) -> Next | None:
    """Next step after a measurement of barriers, by what stands between the models.

    Weights by layer that are proposed come first: they were asked for.
    """
    if found.by_layer and found.by_layer.proposal and found.by_layer.proposal.groups:
        return with_layer_weights(report)
    apart, _ = parting_layers(found.geometry)
    every = [*found.pairs, *(entry for one in found.sets.values() for entry in one.pairs)]
    kinds = {standing(entry): entry for entry in every}
    if "barrier" not in kinds:
        if "unknown" in kinds:
            return _more_for_barrier(kinds["unknown"])
        return Next("average them", then(report, "soup", "soup"))
    if are_heads(apart):
        return without_heads(apart)
    barred = {entry.along for entry in every if standing(entry) not in {"none", "negligible"}}
    free = [entry.along for entry in every if entry.along not in barred]
    if len(parents(report)) == PAIR and free:
        command = then(report, "soup", "soup", [f"--along={free[0]}"])
        return Next(f"merge along {free[0]}, where nothing is in the way", command)
    return around(report)


def _more_for_barrier(entry: BarrierEntry) -> Next | None:
    if entry.documents is None:
        return None
    limit = entry.threshold or limit_of(entry.loss[0] or 0.0)
    needed = documents_needed(entry.documents, entry.barrier.detectable, limit)
    return Next(
        f"about {needed} documents in the report half in place of {entry.documents} would tell a "
        "barrier of 2 % of the loss"
    )


def _after_path(report: Report, found: PathMeasurements) -> Next | None:
    fitted = [found.fitted, *(one.fitted for one in found.sets.values())]
    if any(standing(entry) == "barrier" for entry in fitted):
        return Next("fit for more --steps, or with more --bends: a barrier is left")
    if report.output is None:
        return None
    words = ["geo-merge", "point", report.output, "-o", f"{report.output}-point"]
    return Next("take its best point", shlex.join(words))


def _after_search(report: Report, found: SearchMeasurements) -> Next | None:
    """Next step of a search for several aims: write a trial of its front."""
    if not found.search.front:
        return None
    command = take_command(report, found.search)
    return Next("write the one that you choose, such as the middle one", command)


def _after_escape(report: Report, found: EscapeMeasurements) -> Next | None:
    """Next step as the verdict has it."""
    advice = found.escape.verdict.advice
    return Next(advice) if advice else None


def _after_sharpness(report: Report, found: SharpnessMeasurements) -> Next | None:
    """Next step from a saddle: out of it."""
    every = [*found.sharpness, *(e for one in found.sets.values() for e in one.sharpness)]
    saddle = next((one.model for one in every if one.stationarity.kind == "saddle"), None)
    if saddle is None:
        return None
    if report.provenance is None or not report.provenance.command:  # models in memory
        return Next("leave the saddle: geo.escape")
    command = ["geo-merge", "escape", saddle, "--train-data", "TRAINING-DATA", "-o"]
    return Next("leave the saddle", shlex.join([*command, f"{saddle}-escaped"]))


NEXT: dict[type, Callable[[Report, Any], Next | None]] = {
    MergeMeasurements: _after_output,
    FinetuneMeasurements: _after_output,
    EscapeMeasurements: _after_escape,
    SharpnessMeasurements: _after_sharpness,
    BarrierMeasurements: _after_barrier,
    PathMeasurements: _after_path,
    SearchMeasurements: _after_search,
}
