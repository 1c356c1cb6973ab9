"""How models that do not fit one another are made to fit: vocabularies, and parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mergekit_geo.config.docstrings import described
from mergekit_geo.config.option import check, option
from mergekit_geo.errors import ArgumentError

PANEL = "Models that differ"
BASE, UNION = "base", "union"


@dataclass(frozen=True)
class TokenSource:
    """Where the row of one token comes from.

    Attributes:
        model: The model that has it; None with neither `zero` leaves the default rule.
        token: The token of that model whose row is taken; the same token if None.
        token_id: Its row, in place of `token`.
        zero: Whether the row is zeros.
        force: Whether all models get this row, those that have the token, too.

    Raises:
        ArgumentError: Both `token` and `token_id`, or `force` of nothing.

    Example:
        >>> TokenSource("a", token="<s>", force=True).is_stated
        True
    """

    model: str | None = None
    token: str | None = None
    token_id: int | None = None
    zero: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        if self.token is not None and self.token_id is not None:
            raise ArgumentError(
                f"both token ({self.token!r}) and token_id ({self.token_id}) say which row is "
                "taken",
                remedy="leave one of them out",
            )
        if self.force and not self.is_stated:
            raise ArgumentError(
                "force gives every model one row, and no source says which",
                remedy="add `source: MODEL`, or leave force out",
            )

    @property
    def is_stated(self) -> bool:
        """Whether it says where the row comes from."""
        return self.zero or self.model is not None


@described
@dataclass(frozen=True)
class ReshapeConfig:
    """How models that differ in vocabulary or in parts are made to fit.

    Rows of embeddings and heads are put where the output's tokenizer has their tokens. A token that
    a model lacks gets the row of the only model that has it, or else the base's, or else the mean
    of those that have it.

    Raises:
        ArgumentError: A number that cannot be meant.

    Example:
        >>> ReshapeConfig("union", pad_to_multiple_of=64).is_nothing, ReshapeConfig().is_nothing
        (False, True)
    """

    tokenizer_source: str | None = option(
        None, "Tokenizer of the output: union, base (the first model's), or that of a model; rows "
        "of all models are put in its order.", panel=PANEL, metavar="SOURCE",
        unset="the first model's, with the rows as they are",
    )  # fmt: skip
    pad_to_multiple_of: int | None = option(
        None, "Pad the rows of embeddings and head to a multiple of this; padding rows are the "
        "mean of the others.", panel=PANEL, least=1, unset="as many rows as tokens",
    )  # fmt: skip
    keep_padding: bool = option(
        False, "Keep the base's rows beyond its tokens, where the output's tokenizer leaves room.",
        panel=PANEL,
    )  # fmt: skip
    truncate_embeddings: bool = option(
        False, "Cut embeddings and heads of unlike vocabularies to the rows that all models have.",
        panel=PANEL,
    )  # fmt: skip
    part: str | None = option(
        None, "Merge this part alone, such as text or vision: models that are such a part alone "
        "are put in its place, and all else is the first whole model's.", panel=PANEL,
        metavar="PART", unset="whole models",
    )  # fmt: skip
    allow_missing_parts: bool = option(
        False, "Copy parts that only some models have, such as a vision tower or a "
        "multi-token-prediction layer, from the first that has them.", panel=PANEL,
    )  # fmt: skip
    tokens: Mapping[str, TokenSource] | None = option(
        None, "Where rows of single tokens come from, by token; those that the tokenizer lacks are "
        "added to it.", "", recorded=False, unset="the default rule",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check(self)

    @property
    def is_by_token(self) -> bool:
        """Whether rows are put in the order of the output's tokenizer."""
        return bool(
            self.tokenizer_source or self.pad_to_multiple_of or self.keep_padding or self.tokens
        )

    @property
    def is_nothing(self) -> bool:
        """Whether all models stay as they are."""
        return self == ReshapeConfig()
