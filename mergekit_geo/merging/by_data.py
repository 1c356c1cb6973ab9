"""Rules that are complete only with what was found of the models on data."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Self


class ByData:
    """A rule that statistics of the models complete, such as Fishers or Gram matrices.

    It is made with its numbers alone, as all rules are, from a call or a recipe. `selection` has
    computed what it asks for before any tensor is merged.

    Attributes:
        asks: Settings of the statistics; all rules of a merge ask for the same.
    """

    asks: Hashable

    def given(self, found: Sequence[Any], keys: Sequence[str]) -> Self:
        """The rule with its statistics.

        Args:
            found: What there is of each model, in the order of the rule: the base first.
            keys: Digest of each, which change when the statistics do.
        """
        raise NotImplementedError
