"""What is right in a document of lm-evaluation-harness: choices, a reference answer, bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask

    Doc = Mapping[str, Any]

PER_BYTE = ("byte_perplexity", "bits_per_byte")
"""Metrics of lm-eval that come as a log-likelihood and the bytes of a text."""


def right_choices(task: ConfigurableTask, doc: Doc) -> list[int]:
    """Numbers of the right answers among a question's choices; none where the label is none.

    As lm-eval's `process_results` reads them: a number, the text of a choice, or several numbers.
    """
    if task.OUTPUT_TYPE != "multiple_choice":
        return [0]
    choices = task.doc_to_choice(doc)
    found = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    if isinstance(found, str):
        found = choices.index(found) if found in choices else -1
    several = found if isinstance(found, list) else [found]
    return [one for one in several if isinstance(one, int) and 0 <= one < len(choices)]


def reference_answer(task: ConfigurableTask, doc: Doc) -> str | None:
    """What a model should generate, the first of several; None where the task has no text for it.

    Tests that generated code has to pass are no answer.
    """
    if getattr(task, "UNSAFE_CODE", False):
        return None
    found: Any = task.doc_to_target(doc)
    if task.config.doc_to_choice is not None and isinstance(found, int):
        found = task.doc_to_choice(doc)[found]
    elif isinstance(task.config.doc_to_target, int):
        return None
    if isinstance(found, list):
        found = found[0] if found else ""
    text = str(found)
    return f"{task.config.target_delimiter}{text}" if text.strip() else None


def count_bytes(task: ConfigurableTask, doc: Doc) -> int:
    """UTF-8 bytes of a text, as the task counts them for bits per byte."""
    counted = task.process_results(doc, [0.0])
    for name in PER_BYTE:
        if isinstance(counted.get(name), tuple):
            return max(int(counted[name][1]), 1)
    return max(len(str(task.doc_to_target(doc)).encode()), 1)
