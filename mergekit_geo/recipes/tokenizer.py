"""`tokenizer` and `tokenizer_source`: which tokenizer the output has, and whose rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mergekit_geo.config.keys import RecipeKeys, Whole
from mergekit_geo.config.reshape import ReshapeConfig, TokenSource
from mergekit_geo.errors import ArgumentError, RecipeError
from mergekit_geo.recipes.reference import Reference, reference


def _unprefixed(said: Any) -> Any:
    return said.removeprefix("model:") if isinstance(said, str) else said


TokenizerSource = Annotated[Reference, BeforeValidator(_unprefixed)]
"""`base`, `union` or a model; older versions of mergekit write `model:NAME` for a model."""


class ModelToken(RecipeKeys):
    """A row of a model, by its token or its id.

    Attributes:
        kind: `model_token`.
        model: The model.
        token: One of its tokens; or
        token_id: the number of a row.
    """

    kind: Literal["model_token"]
    model: Reference
    token: str | None = None
    token_id: Whole | None = None


class ZeroRow(RecipeKeys):
    """A row of zeros.

    Attributes:
        kind: `zero`.
    """

    kind: Literal["zero"]


def _source(said: Any) -> Any:
    """A model as text, or one of the two mappings by its `kind`.

    Raises:
        ArgumentError: Another kind.
    """
    if not isinstance(said, dict) or "kind" not in said:
        return reference(said)
    kinds: dict[Any, type[RecipeKeys]] = {"model_token": ModelToken, "zero": ZeroRow}
    if said["kind"] not in kinds:
        raise ArgumentError(
            f"no kind of source {said['kind']!r}", remedy=f"expected {' or '.join(kinds)}"
        )
    return kinds[said["kind"]].model_validate(said)


class TokenKeys(RecipeKeys):
    """Where the row of a token comes from.

    Attributes:
        source: The model that has it; a row of a model, `{kind: model_token, model, token}` or
            with `token_id`; or `{kind: zero}`.
        force: Give every model this row, those that have the token, too.
    """

    source: Annotated[ModelToken | ZeroRow | str | None, BeforeValidator(_source)] = None
    force: bool = False

    @model_validator(mode="after")
    def _can_be_meant(self) -> TokenKeys:
        said = self.source
        if isinstance(said, ModelToken) and said.token is None and said.token_id is None:
            raise ArgumentError(
                "neither token nor token_id says which row of the model is taken",
                remedy="add `token: ...`",
            )
        self.resolved({})
        return self

    def resolved(self, names: Mapping[str, str]) -> TokenSource:
        """Settings with the names that the models have when they are open."""
        said = self.source
        if isinstance(said, ModelToken):
            model: str | None = names.get(said.model, said.model)
            return TokenSource(model, said.token, said.token_id, force=self.force)
        model = names.get(said, said) if isinstance(said, str) else None
        return TokenSource(model, zero=isinstance(said, ZeroRow), force=self.force)


class Tokenizer(RecipeKeys):
    """Which tokenizer the output has: mergekit's newer form of `tokenizer_source`.

    Attributes:
        source: `base`, `union`, or the model whose it is.
        tokens: Where rows of single tokens come from, by token.
        pad_to_multiple_of: What the rows of the embedding become a multiple of.
        keep_padding: Keep the base's rows beyond its tokens.
    """

    source: Reference = "union"
    tokens: dict[str, TokenKeys | None] | None = None
    pad_to_multiple_of: Annotated[Whole, Field(ge=1)] | None = None
    keep_padding: bool = False


def fitting_of(
    tokenizer: Tokenizer | None,
    source: str | None,
    called: ReshapeConfig,
    names: Mapping[str, str],
) -> ReshapeConfig:
    """How models are made to fit; what the call says goes before what the recipe says.

    Args:
        tokenizer: As the recipe has it.
        source: `tokenizer_source`, as the recipe has it.
        called: As the call has it.
        names: Of the models when they are open, by what the recipe calls them.

    Raises:
        RecipeError: The recipe says it twice.

    Example:
        >>> called = ReshapeConfig(pad_to_multiple_of=8)
        >>> found = fitting_of(None, "m", called, {"m": "model 1 (in memory)"})
        >>> found.tokenizer_source, found.pad_to_multiple_of
        ('model 1 (in memory)', 8)
    """
    if tokenizer and source:
        raise RecipeError(
            "tokenizer and tokenizer_source say the same",
            where="tokenizer_source",
            remedy="leave one of them out",
        )
    wanted = tokenizer or (Tokenizer(source=source) if source else None)
    found = _said(wanted, names) if wanted else ReshapeConfig()
    given = {
        one.name: value
        for one in fields(called)
        if (value := getattr(called, one.name)) != one.default
    }
    return replace(found, **given)


def _said(tokenizer: Tokenizer, names: Mapping[str, str]) -> ReshapeConfig:
    tokens = (tokenizer.tokens or {}).items()
    return ReshapeConfig(
        names.get(tokenizer.source, tokenizer.source),
        tokenizer.pad_to_multiple_of,
        tokenizer.keep_padding,
        tokens={t: (one or TokenKeys()).resolved(names) for t, one in tokens} or None,
    )
