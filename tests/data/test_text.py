"""Honest data: what is held out has never been seen."""

import re

from mergekit_geo.data.text import SHARED_RUN, builtin_documents


def flat(text: str) -> str:
    return " ".join(text.split())


def test_no_run_of_held_out_text_stands_in_the_training_text() -> None:
    train = "\n".join(flat(document.text) for document in builtin_documents("train"))
    for document in builtin_documents("held-out"):
        for paragraph in re.split(r"\n\s*\n", document.text):
            text = flat(paragraph)
            runs = (text[i : i + SHARED_RUN] for i in range(0, len(text) - SHARED_RUN + 1))
            assert not any(run in train for run in runs), document.name


def test_split_is_by_topic_and_keeps_most_for_training() -> None:
    train, held_out = builtin_documents("train"), builtin_documents("held-out")
    assert {d.name for d in train}.isdisjoint(d.name for d in held_out)
    assert len(held_out) >= 10
    assert sum(len(d.text) for d in train) > 200_000


def test_no_paragraph_stands_twice() -> None:
    documents = builtin_documents("train") + builtin_documents("held-out")
    paragraphs = [flat(p) for d in documents for p in re.split(r"\n\s*\n", d.text)]
    assert len(paragraphs) == len(set(paragraphs))
