"""The table of architectures that the tests merge, for the documentation."""

from __future__ import annotations

from scripts.docs.methods import table_row
from tests.architectures import ARCHITECTURES, Architecture

HEAD = ("family", "`model_type`", "class of transformers", "loss is measured on")
MEASURED = {"text": "text", "pairs": "pairs of texts", "images": "images with labels"}


def architecture_table() -> str:
    """Family, type and class of every architecture, and what its loss is measured on."""
    rows = [_row(name, one) for name, one in ARCHITECTURES.items()]
    return "\n".join(table_row(row) for row in [HEAD, ("---",) * len(HEAD), *rows])


def _row(name: str, one: Architecture) -> tuple[str, ...]:
    return name, f"`{one.kind}`", f"`{one.model}`", MEASURED.get(one.data, "not in the tests")
