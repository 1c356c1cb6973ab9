"""`tokenizer` and `tokenizer_source`: which model's tokenizer the output has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.configuration import vocabulary_size
from mergekit_geo.checkpoints.vocabulary import tokenizer_folder, unlike_vocabularies
from mergekit_geo.errors import RecipeError
from mergekit_geo.recipes.schema import Recipe

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint

UNION, BASE = "union", "base"


def tokenizer_of(recipe: Recipe, models: Sequence[str]) -> int | None:
    """Position of the model whose tokenizer the output has; None where the recipe leaves it open.

    Args:
        recipe: As read.
        models: The anchors, the base first.

    Raises:
        RecipeError: It names two, or none of the models.
    """
    source = _source(recipe)
    if source is None or source == UNION:
        return None
    if source == BASE:
        return 0
    if source not in models:
        raise RecipeError(
            f"{source} is none of the models",
            where="tokenizer_source",
            remedy=f"expected base or one of {', '.join(models)}",
        )
    return models.index(source)


def check_tokenizer(recipe: Recipe, checkpoints: Sequence[Checkpoint]) -> None:
    """Refuse what would need rows that no model has.

    Raises:
        RecipeError: A union of unlike vocabularies, or padding that is not there yet.
    """
    if _source(recipe) == UNION:
        _check_union(checkpoints)
    multiple = recipe.tokenizer and recipe.tokenizer.pad_to_multiple_of
    if multiple:
        _check_padding(multiple, checkpoints[0])


def _source(recipe: Recipe) -> str | None:
    if recipe.tokenizer and recipe.tokenizer_source:
        raise RecipeError(
            "tokenizer and tokenizer_source say the same",
            where="tokenizer_source",
            remedy="leave one of them out",
        )
    return recipe.tokenizer.source if recipe.tokenizer else recipe.tokenizer_source


def _check_union(checkpoints: Sequence[Checkpoint]) -> None:
    """Of equal vocabularies, the union is any of them."""
    here = [c for c in checkpoints if tokenizer_folder(c) is not None]
    if unlike := unlike_vocabularies(here):
        raise RecipeError(
            f"a union of unlike vocabularies is not built, rows of the embeddings would have to be "
            f"made up: {unlike}",
            where="tokenizer_source",
            remedy="merge models of one vocabulary; or take one model's whole, `tokenizer_source: "
            f"{checkpoints[0].name}`",
        )


def _check_padding(multiple: int, checkpoint: Checkpoint) -> None:
    rows = vocabulary_size(checkpoint.config)
    if rows is None or rows % multiple:
        found = "whose number cannot be told" if rows is None else f"{rows} now"
        raise RecipeError(
            f"padding the vocabulary to a multiple of {multiple} is not built: rows of the "
            f"embeddings, {found}, would have to be made up",
            where="tokenizer.pad_to_multiple_of",
            remedy="leave it out: the output has the rows that the models have",
        )
