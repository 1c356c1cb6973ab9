"""How differently parents' own tokenizers and the output's cut the documents."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.records.findings import percent
from mergekit_geo.records.tokenization import TokenizationEntry
from mergekit_geo.views.block import Block, Paragraph, Table

ABOUT = (
    "Parents were measured by their own tokenizers, the output by its own, on the same documents. "
    "Losses per token of unlike tokenizers cannot be compared; these are per byte of text."
)


def tokenization_blocks(entries: Sequence[TokenizationEntry], unit: str) -> list[Block]:
    """Texts that are cut differently, and tokens; nothing where all tokenizers are the output's.

    Args:
        entries: Of the parents that have another tokenizer.
        unit: What losses are counted in.
    """
    rows = [
        [one.model, cut_differently(one), f"{one.tokens:,}", f"{one.output_tokens:,}"]
        for one in entries
    ]
    head = ["model", "texts that the output cuts differently", "its tokens", "the output's"]
    about = [Paragraph(ABOUT)] if unit == "byte" and rows else []
    return [*about, Table(head, rows)]


def cut_differently(entry: TokenizationEntry) -> str:
    """A count and its share.

    >>> cut_differently(TokenizationEntry(
    ...     model="a", texts=120, differing=3, tokens=900, output_tokens=899))
    '3 of 120 (2.5 %)'
    """
    return f"{entry.differing} of {entry.texts} ({percent(entry.differing / entry.texts)})"
