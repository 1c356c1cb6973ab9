"""The table of architectures that the tests merge, for the documentation."""

from __future__ import annotations

from scripts.docs.methods import table_row
from tests.architectures import ARCHITECTURES, Architecture

HEAD = ("family", "`model_type`", "class of transformers", "loss is measured on")
MEASURED = {"text": "text", "pairs": "pairs of texts", "images": "images with labels"}
IN_TASKS = {
    "Whisper": "recordings, in an example",
    **dict.fromkeys(("CLIP", "SigLIP"), "images with captions or class names"),
    **dict.fromkeys(
        ("Llava", "Qwen2.5-VL", "Gemma 3 (pictures)"), "text; conversations with images"
    ),
}
"""What the tests of tasks, and of examples, measure families on that read more than text."""


def architecture_table() -> str:
    """Family, type and class of every architecture, and what its loss is measured on."""
    rows = [_row(name, one) for name, one in ARCHITECTURES.items()]
    return "\n".join(table_row(row) for row in [HEAD, ("---",) * len(HEAD), *rows])


def _row(name: str, one: Architecture) -> tuple[str, ...]:
    measured = MEASURED.get(one.data) or IN_TASKS.get(name, "not in the tests")
    return name, f"`{one.kind}`", f"`{one.model}`", measured
