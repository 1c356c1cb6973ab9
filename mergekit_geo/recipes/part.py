"""What every mapping of a recipe is."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Whole = Annotated[int, Field(strict=True)]
"""A whole number: YAML's `true` is none."""


class Part(BaseModel):
    """A mapping of the recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)
