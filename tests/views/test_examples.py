"""Examples that changed, in words."""

from __future__ import annotations

from typing import Any

import pytest

from mergekit_geo.records.examples import ExampleEntry, ExamplesEntry
from mergekit_geo.records.losses import DataEntry, SignTest
from mergekit_geo.records.merge import MergeCoefficients, MergeMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.sets import OutputSetEntry
from mergekit_geo.views.block import Code, Folded, Paragraph
from mergekit_geo.views.examples import examples_section, said_of
from mergekit_geo.views.private_texts import is_all_public, without_private_texts

TELLING = ExampleEntry(
    change="lost", example=3, document=2, name="held.jsonl:3", label="fine", text="a secret",
    weight=1.0, loss=[0.25, 0.5, 1.0], score=[1.0, 1.0, 0.0],
)  # fmt: skip


def entry(parents: int = 2, **more: Any) -> ExamplesEntry:
    known: dict[str, Any] = {
        "models": [*"abc"[:parents], "output"], "best": "a", "examples": 20, "lost": 4,
        "gained": 1, "documents": SignTest(above=9, below=1, ties=2, p_value=0.0214),
        "telling": [TELLING],
    }  # fmt: skip
    return ExamplesEntry(**{**known, **more})


def data(source: str) -> DataEntry:
    return DataEntry(
        source=source, digest="0", documents=9, examples=9, available=9, tokens=9, seq_len=9, seed=0
    )


def merged(**more: Any) -> MergeMeasurements:
    return MergeMeasurements(
        coefficients=MergeCoefficients(method="linear", weights=[0.5, 0.5], branches={}),
        losses=[], differences=[], barriers=[], sharpness=[], geometry=None, **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("parents", "words"),
    [(1, "the parent has right"), (2, "both parents have right"), (3, "all parents have right")],
)
def test_counts_and_sign_test_in_words(parents: int, words: str) -> None:
    assert said_of(entry(parents)) == (
        f"Of 20 examples, the output has 4 wrong that {words}, and is alone to have 1 right. "
        "The output's loss is above that of a, the best parent, on 9 documents and below on 1, "
        "the same on 2: more often above (sign test, p = 0.021)."
    )


def test_a_loss_without_right_and_wrong() -> None:
    test = SignTest(above=4, below=5, ties=0, p_value=1.0)
    assert said_of(entry(lost=None, gained=None, documents=test)) == (
        "The output's loss is above that of a, the best parent, on 4 documents and below on 5: no "
        "more often above than below (sign test, p = 1)."
    )


def test_texts_are_behind_a_click() -> None:
    told, folded = examples_section(merged(examples=entry())).blocks
    assert isinstance(told, Paragraph)
    assert isinstance(folded, Folded)
    _, about, text = folded.blocks
    assert about == Paragraph(
        "lost: held.jsonl:3 (example 3); class fine; loss a 0.2500, b 0.5000, output 1.0000; "
        "score a 1, b 1, output 0"
    )
    assert text == Code("a secret", "")


def test_only_texts_of_public_data_stay() -> None:
    sets = {
        name: OutputSetEntry(data=data(source), losses=[], examples=entry())
        for name, source in (("docs", "builtin:python-docs"), ("own", "held.jsonl"))
    }
    first = sets["docs"]
    report = Report(
        command="soup", data=first.data, result=merged(examples=first.examples, sets=sets)
    )
    bare = without_private_texts(report)
    assert "a secret" in bare.result.sets["docs"].model_dump_json()  # type: ignore[union-attr]
    assert "a secret" not in bare.result.sets["own"].model_dump_json()  # type: ignore[union-attr]
    assert not is_all_public(report)
    assert without_private_texts(bare) is bare
    public = report.model_copy(update={"result": merged(examples=first.examples)})
    assert without_private_texts(public) is public
