"""What every mapping of a recipe is."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mergekit_geo.limits import MOST

Whole = Annotated[int, Field(strict=True)]
"""An integer; YAML's `true` is refused."""

Seed = Annotated[int, Field(strict=True, ge=0, le=MOST["seed"])]
"""A seed that every library accepts."""


class RecipeKeys(BaseModel):
    """A mapping of the recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)
