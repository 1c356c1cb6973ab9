"""How differently a model's own tokenizer and an output's cut the same texts."""

from __future__ import annotations

from mergekit_geo.records import Record


class TokenizationEntry(Record):
    """A count over the documents that loss was measured on.

    Attributes:
        model: A parent whose own vocabulary is not the output's.
        texts: Documents that were compared.
        differing: How many of them its own tokenizer cuts into other tokens.
        tokens: Tokens of all of them by its own tokenizer.
        output_tokens: By the output's.
    """

    model: str
    texts: int
    differing: int
    tokens: int
    output_tokens: int
