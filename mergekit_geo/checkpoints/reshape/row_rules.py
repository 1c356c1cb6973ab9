"""Which row of which model each token has: its own, or a rule for those that lack it.

The row that is wished for; else that of the only model that has the token; else the base's; else
the mean of those that have it; zeros where nobody has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.reshape.rows import FIRST_MADE, MEAN, RowMap, Rows, Sources
from mergekit_geo.checkpoints.reshape.tokenizer_file import TokenizerFile
from mergekit_geo.checkpoints.reshape.union import Held
from mergekit_geo.config.reshape import ReshapeConfig, TokenSource
from mergekit_geo.errors import ArgumentError

SHOWN = 3
"""Most tokens that a message names."""


@dataclass
class Vocabularies:
    """Models, their tokenizers and their rows.

    Attributes:
        checkpoints: As they were opened, the donor or base first.
        config: What is asked for.
        has_base: Whether the first is a base.
        held: Each model's tokenizer; where it has none, that of the first model that has one.
        bare: Names of those that have none.
        warnings: What the user should know.
        notes: What was done.
    """

    checkpoints: Sequence[Checkpoint]
    config: ReshapeConfig
    has_base: bool
    held: list[Held]
    bare: list[str]
    warnings: list[str]
    notes: list[str]

    @cached_property
    def names(self) -> list[str]:
        """What the user calls the models."""
        return [checkpoint.name for checkpoint in self.checkpoints]

    def position(self, name: str) -> int:
        """The place of a model.

        Raises:
            ArgumentError: It is none of them.
        """
        if name in self.names:
            return self.names.index(name)
        raise ArgumentError(
            f"{name} is none of the models", remedy=f"expected one of {', '.join(self.names)}"
        )


def row_maps(found: Vocabularies, output: TokenizerFile) -> list[RowMap]:
    """Where every row of every model comes from.

    Raises:
        ArgumentError: A row that is asked for is not there.
    """
    count = output.count
    keeps = found.config.keep_padding or _are_alike(found, output)
    rows = _size(found, count, keeps=keeps)
    maps = [np.full(rows, MEAN, np.int64) for _ in found.held]
    ids = np.fromiter(output.tokens.values(), np.int64, len(output.tokens))
    for place, held in zip(maps, found.held, strict=True):
        own = held.tokens
        place[ids] = [own.get(token, FIRST_MADE) for token in output.tokens]
        extra = held.rows - held.file.count
        if keeps and extra > 0:
            kept = min(extra, rows - count)
            place[count : count + kept] = held.file.count + np.arange(kept)
    made = _fill(found, output, maps)
    return [RowMap(place, made, count) for place in maps]


def _are_alike(found: Vocabularies, output: TokenizerFile) -> bool:
    """Whether all models have the output's tokens in as many rows, and nothing else is wished."""
    rows = {held.rows for held in found.held}
    wished = found.config.pad_to_multiple_of or found.config.tokens
    return len(rows) == 1 and not wished and all(h.tokens == output.tokens for h in found.held)


def _size(found: Vocabularies, count: int, *, keeps: bool) -> int:
    """Rows of the output."""
    multiple = found.config.pad_to_multiple_of or 1
    least = max(count, found.held[0].rows) if keeps else count
    return -(-least // multiple) * multiple


def _fill(found: Vocabularies, output: TokenizerFile, maps: Sequence[Rows]) -> list[Sources]:
    """Give rows that models lack their codes, and those that are forced theirs."""
    codes: dict[Sources, int] = {}
    nobody: list[str] = []
    stated = found.config.tokens or {}
    wished = {token: _wished(found, token, one) for token, one in stated.items() if one.is_stated}
    lacking = np.any([place == FIRST_MADE for place in maps], axis=0)
    for token, row in output.tokens.items():
        forced = token in stated and stated[token].force
        if lacking[row] or forced:
            sources = wished.get(token)
            if sources is None:
                sources = _by_rule([int(place[row]) for place in maps], has_base=found.has_base)
                nobody += [] if sources else [token]
            code = codes.setdefault(sources, FIRST_MADE - 1 - len(codes))
            for place in maps:
                if forced or place[row] == FIRST_MADE:
                    place[row] = code
    if nobody:
        found.warnings.append(
            f"{len(nobody)} tokens have a row in no model ({few(nobody)}): theirs are zeros"
        )
    return [(), *codes]


def _by_rule(rows: Sequence[int], *, has_base: bool) -> Sources:
    """Where the row of a token comes from in models that lack it.

    Args:
        rows: Its row in each model; negative where that has none.
        has_base: Whether the first is a base, whose row then stands for all.

    Example:
        >>> _by_rule([4, -1, 7], has_base=False), _by_rule([4, -1, 7], has_base=True)
        (((0, 4), (2, 7)), ((0, 4),))
    """
    having = [place for place, row in enumerate(rows) if row >= 0]
    chosen = [0] if has_base and 0 in having else having
    return tuple((place, rows[place]) for place in chosen)


def _wished(found: Vocabularies, token: str, wish: TokenSource) -> Sources:
    """The row that a token is to have.

    Raises:
        ArgumentError: There is no such row.
    """
    if wish.zero or wish.model is None:
        return ()
    where = f"tokenizer.tokens.{token}"
    try:
        model = found.position(wish.model)
    except ArgumentError as error:
        raise ArgumentError(error.message, where=where, remedy=error.remedy) from error
    held = found.held[model]
    if wish.token_id is not None:
        if not 0 <= wish.token_id < held.rows:
            raise ArgumentError(
                f"token_id {wish.token_id} of {wish.model}, which has the rows 0 to "
                f"{held.rows - 1}",
                where=where,
            )
        return ((model, wish.token_id),)
    wanted = token if wish.token is None else wish.token
    if wanted not in held.tokens:
        raise ArgumentError(
            f"{wish.model} has no token {wanted!r}", where=where,
            remedy=_who_has(found, wanted) or "no model has it",
        )  # fmt: skip
    return ((model, held.tokens[wanted]),)


def _who_has(found: Vocabularies, token: str) -> str:
    having = [held.name for held in found.held if token in held.tokens]
    return f"{', '.join(having)} has it" if having else ""


def few(tokens: Sequence[str]) -> str:
    """The first few tokens, for messages.

    Example:
        >>> few(["a", "b"]), few(list("abcd"))
        ("'a', 'b'", "'a', 'b', 'c', ...")
    """
    return ", ".join(map(repr, tokens[:SHOWN])) + (", ..." if len(tokens) > SHOWN else "")
