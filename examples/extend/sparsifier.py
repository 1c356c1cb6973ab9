"""A merge method that keeps some elements of every task vector: here the smallest.

python examples/extend/sparsifier.py merge a b --method smallest --base base --density .5 -o out
"""

from __future__ import annotations

from mergekit_geo.cli.app import main
from mergekit_geo.geometry.sparsifiers import ByRank, Selection, Sparsifier
from mergekit_geo.merging.methods import METHODS
from mergekit_geo.merging.sparsified import sparsified


class Smallest(Sparsifier):
    """The smallest by magnitude, a share `density` of each tensor."""

    def select(self, count: int) -> Selection:
        """Ranks of the kept elements of a tensor, the smallest being 0."""
        return ByRank(0, int(self.density * count))


SMALLEST = sparsified(
    "smallest", Smallest, formula="b + lambda sum w_i m_i v_i; m_i keeps the smallest", source=""
)

METHODS[SMALLEST.name] = SMALLEST  # the line in the table

if __name__ == "__main__":
    main()
