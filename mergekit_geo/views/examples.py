"""Which examples a merge does worse or better than its parents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mergekit_geo.records.examples import ExampleEntry, ExamplesEntry
from mergekit_geo.records.losses import SignTest
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.views.block import Block, Code, Folded, Paragraph, Section
from mergekit_geo.views.chart import label

CHANGES = {"lost": "lost", "gained": "gained", "rise": "loss rises", "fall": "loss falls"}


def examples_section(found: MergeMeasurements) -> Section:
    """Counts and a sign test, and the most telling examples behind a click, set by set."""
    blocks: list[Block] = []
    for name, entry in _sets(found).items():
        blocks.append(Paragraph(f"{name}: {said_of(entry)}" if name else said_of(entry)))
        title = f"{name}: the most telling examples" if name else "the most telling examples"
        blocks.append(Folded(title, _telling(entry)))
    return Section("Which examples changed", blocks)


def _sets(found: MergeMeasurements) -> Mapping[str, ExamplesEntry]:
    if found.sets:
        return {name: one.examples for name, one in found.sets.items() if one.examples}
    return {"": found.examples} if found.examples else {}


def said_of(found: ExamplesEntry) -> str:
    """What became of the examples of one set, in words."""
    return " ".join(filter(None, (_right_and_wrong(found), _by_document(found))))


def _right_and_wrong(found: ExamplesEntry) -> str:
    if found.lost is None or found.gained is None:
        return ""
    parents = len(found.models) - 1
    every = {1: "the parent has", 2: "both parents have"}.get(parents, "all parents have")
    return (
        f"Of {found.examples} examples, the output has {found.lost} wrong that {every} right, "
        f"and is alone to have {found.gained} right."
    )


def _by_document(found: ExamplesEntry) -> str:
    test = found.documents
    ties = f", the same on {test.ties}" if test.ties else ""
    return (
        f"The output's loss is above that of {found.best}, the best parent, on {test.above} "
        f"documents and below on {test.below}{ties}: {_verdict(test)} "
        f"(sign test, p = {_probability(test)})."
    )


def _verdict(test: SignTest) -> str:
    if not test.is_significant:
        return "no more often above than below"
    return "more often above" if test.above > test.below else "more often below"


def _probability(test: SignTest) -> str:
    """Two digits, as people write it.

    >>> _probability(SignTest(above=9, below=1, ties=0, p_value=0.0214))
    '0.021'
    """
    return f"{test.p_value:.2g}"


def _telling(found: ExamplesEntry) -> list[Block]:
    """The examples, each with the losses and scores of all models above its text."""
    if not found.telling:
        return []
    how = (
        f"Ordered by what they add to the difference from {found.best}; "
        "examples.jsonl has more of them."
    )
    names = [label(name, most=16) for name in found.models]
    each = [_example(entry, names) for entry in found.telling]
    return [Paragraph(how), *(block for blocks in each for block in blocks)]


def _example(entry: ExampleEntry, names: Sequence[str]) -> list[Block]:
    told = [
        f"{CHANGES[entry.change]}: {_place(entry)}",
        f"class {entry.label}" if entry.label else "",
        _numbers("loss", names, entry.loss, ".4f"),
        _numbers("score", names, entry.score, ".3g"),
    ]
    about = Paragraph("; ".join(filter(None, told)))
    return [about, *([Code(entry.text, "")] if entry.text else [])]


def _numbers(what: str, names: Sequence[str], values: Sequence[float | None], form: str) -> str:
    """The number of each model that has one."""
    known = [
        f"{name} {value:{form}}"
        for name, value in zip(names, values, strict=False)
        if value is not None
    ]
    return f"{what} {', '.join(known)}" if known else ""


def _place(entry: ExampleEntry) -> str:
    name = entry.name or f"document {entry.document}"
    return name if entry.example is None else f"{name} (example {entry.example})"
