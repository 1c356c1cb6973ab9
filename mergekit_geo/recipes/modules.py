"""`modules: {default: ...}`, as mergekit writes any recipe: what is under it, a floor higher."""

from __future__ import annotations

from mergekit_geo.errors import RecipeError
from mergekit_geo.recipes.schema import Recipe
from mergekit_geo.recipes.values import layered

ONLY = "default"
"""The name of the only module of a language model."""


def without_modules(recipe: Recipe) -> Recipe:
    """Move a single module's models or slices to the top level of the recipe.

    Raises:
        RecipeError: Other modules, or models beside them.

    Example:
        >>> module = {"models": [{"model": "a"}], "parameters": {"weight": 1}}
        >>> recipe = {"merge_method": "linear", "modules": {"default": module}}
        >>> found = without_modules(Recipe.model_validate(recipe))
        >>> found.models[0].model, found.parameters, found.modules
        ('a', {'weight': 1}, None)
    """
    if recipe.modules is None:
        return recipe
    if recipe.models is not None or recipe.slices is not None:
        raise RecipeError("a recipe has models, slices or modules: one of them", where="modules")
    if list(recipe.modules) != [ONLY]:
        found = ", ".join(recipe.modules) or "none"
        raise RecipeError(
            f"expected the module {ONLY}, found {found}: merging the parts of a multimodal model "
            "by recipes of their own is not built; filters on tensor names reach them",
            where="modules",
        )
    only = recipe.modules[ONLY]
    return recipe.model_copy(
        update={
            "modules": None,
            "models": only.models,
            "slices": only.slices,
            "parameters": layered(recipe.parameters, only.parameters),
            "dtype": only.dtype or recipe.dtype,
            "out_dtype": only.out_dtype or recipe.out_dtype,
        }
    )
