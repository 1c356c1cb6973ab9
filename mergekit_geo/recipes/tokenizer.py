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


def holder_of_union(recipe: Recipe, checkpoints: Sequence[Checkpoint]) -> int | None:
    """Position of the first model that has the tokenizer of all, where the first has none.

    Args:
        recipe: As read.
        checkpoints: The anchors, the base first.
    """
    if _source(recipe) != UNION or tokenizer_folder(checkpoints[0]):
        return None
    return next((i for i, one in enumerate(checkpoints) if tokenizer_folder(one)), None)


def check_tokenizer(
    recipe: Recipe, checkpoints: Sequence[Checkpoint], position: int | None
) -> None:
    """Refuse what would need rows that no model has, and a tokenizer that is not there.

    Args:
        recipe: As read.
        checkpoints: The anchors, the base first.
        position: Of the one whose tokenizer the output is to have; None leaves it open.

    Raises:
        RecipeError: A union of unlike vocabularies, padding that is not there yet, or no tokenizer.
    """
    if position is not None:
        _check_is_there(checkpoints, position)
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


def _check_is_there(checkpoints: Sequence[Checkpoint], position: int) -> None:
    """Where another model has one: pictures and sounds need none."""
    having = [checkpoint.name for checkpoint in checkpoints if tokenizer_folder(checkpoint)]
    if having and (named := checkpoints[position]).name not in having:
        raise RecipeError(
            f"{named.name} has no tokenizer",
            where="tokenizer_source",
            remedy=f"name one that has: {', '.join(having)}",
        )


def _check_union(checkpoints: Sequence[Checkpoint]) -> None:
    """Refuse a union of unlike vocabularies; of equal ones it is any of them."""
    here = [c for c in checkpoints if tokenizer_folder(c) is not None]
    if unlike := unlike_vocabularies(here):
        raise RecipeError(
            "a union of unlike vocabularies is not built: a model has no row, or none that was "
            f"trained, for tokens of another: {unlike}",
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
