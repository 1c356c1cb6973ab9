"""The one place where models that do not fit one another are made to fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.reshape.completed import completed
from mergekit_geo.checkpoints.reshape.graft import grafted
from mergekit_geo.checkpoints.reshape.result import Reshaped
from mergekit_geo.config.reshape import ReshapeConfig
from mergekit_geo.errors import ArgumentError

NO_TOKENIZER = "no model has a tokenizer: their rows stay as they are"


def reshaped(
    checkpoints: Sequence[Checkpoint], config: ReshapeConfig, *, has_base: bool = False
) -> Reshaped:
    """Views of models that are of one shape, as it is asked for; without a wish, the models.

    Args:
        checkpoints: As they were opened, the donor or base first.
        config: What is asked for.
        has_base: Whether the first is a base, which the others were tuned from.

    Raises:
        IncompatibleError: They cannot be made to fit so.
        ArgumentError: A model or token that nobody has.
    """
    if config.truncate_embeddings and config.is_by_token:
        raise ArgumentError(
            "truncate_embeddings cuts rows by place, and a tokenizer source puts them in place "
            "by token: only one of them can be meant",
            remedy="leave one of them out",
        )
    if config.truncate_embeddings:
        found = _truncated(checkpoints)
    elif config.is_by_token:
        found = _by_token(checkpoints, config, has_base=has_base)
    else:
        found = Reshaped(tuple(checkpoints))
    if config.part is not None:
        allow = config.allow_missing_parts
        found = found.then(grafted(found.checkpoints, config.part, allow_missing=allow))
    if config.allow_missing_parts:
        found = found.then(completed(found.checkpoints))
    return replace(found, config=config)


def _truncated(checkpoints: Sequence[Checkpoint]) -> Reshaped:
    from mergekit_geo.checkpoints.reshape.truncated import truncated

    found, notes, warnings = truncated(checkpoints)
    return Reshaped(tuple(found), tuple(notes), tuple(warnings))


def _by_token(
    checkpoints: Sequence[Checkpoint], config: ReshapeConfig, *, has_base: bool
) -> Reshaped:
    from mergekit_geo.checkpoints.reshape.vocabulary import (
        by_token,
        open_vocabularies,
        refuse_by_token,
    )

    found = open_vocabularies(checkpoints, config, has_base=has_base)
    if found is None:
        refuse_by_token(checkpoints, config)
        return Reshaped(tuple(checkpoints), (NO_TOKENIZER,))
    views = by_token(found)
    return Reshaped(tuple(views), tuple(found.notes), tuple(found.warnings))
