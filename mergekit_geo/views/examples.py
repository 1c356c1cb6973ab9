"""Which examples a merge does worse or better than its parents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mergekit_geo.records.examples import ExampleEntry, ExamplesEntry
from mergekit_geo.records.losses import SignTest
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.views.block import Block, Folded, Paragraph, Section, Table
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
        f"Its loss is above that of {found.best}, the best parent, on {test.above} documents and "
        f"below on {test.below}{ties}: {_verdict(test)} (sign test, p = {_probability(test)})."
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
    """The examples, each with the losses and scores of all models."""
    if not found.telling:
        return []
    how = (
        f"Ordered by what they add to the difference from {found.best}; "
        "examples.jsonl has more of them."
    )
    scores = any(entry.score for entry in found.telling)
    names = [label(name, most=16) for name in found.models]
    head = ["", "example", "text", *(f"loss {name}" for name in names)]
    head += [f"score {name}" for name in names] if scores else []
    rows = [_row(entry, len(names) if scores else 0) for entry in found.telling]
    return [Paragraph(how), Table(head, rows)]


def _row(entry: ExampleEntry, scores: int) -> list[str]:
    text = " ".join(filter(None, (entry.text, entry.label and f"[{entry.label}]")))
    own = [*_numbers(entry.score, ".3g"), *[""] * scores][:scores]
    return [CHANGES[entry.change], _place(entry), text, *_numbers(entry.loss, ".4f"), *own]


def _numbers(values: Sequence[float | None], form: str) -> list[str]:
    return ["" if value is None else f"{value:{form}}" for value in values]


def _place(entry: ExampleEntry) -> str:
    name = entry.name or f"document {entry.document}"
    return name if entry.example is None else f"{name} (example {entry.example})"
