"""Merging task vectors element by element by rules of their own: nearswap, Arcee Fusion, RAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mergekit_geo.geometry.masked import Elementwise, Joined, Near, Sizes, Sum
from mergekit_geo.geometry.rule import ModelWeights
from mergekit_geo.geometry.sparsifiers import Important, Larger, Sparsifier


class OfOneModel(Elementwise):
    """A rule of base and one model, in which the model's elements take the place of the base's."""

    seed = 0
    needs_sizes = False
    weights = (0.0, 1.0)
    convex = (1.0, 0.0)


@dataclass(frozen=True)
class NearSwap(OfOneModel):
    """b + v min(1, t / |v|): each element moves towards the model's, by `reach` at the most.

    Where the two are within `reach` the output is the model's element. As in mergekit |v| is taken
    for 1e-6 where it is less.

    Attributes:
        reach: The longest step, `t` in a recipe.

    Example:
        >>> NearSwap(0.5).sum([])
        Near(reach=0.5)
    """

    reach: float
    name = "nearswap"
    sparsifiers = (Sparsifier(),)

    def sum(self, sizes: Sequence[Sizes]) -> Near:
        """Steps that end after `reach`."""
        return Near(self.reach)


@dataclass(frozen=True)
class ArceeFusion(OfOneModel):
    """The model's elements where a change is important, the base's elsewhere (Arcee 2025).

    Example:
        >>> ArceeFusion().passes
        3
    """

    name = "arcee_fusion"
    sparsifiers = (Important(),)

    def sum(self, sizes: Sequence[Sizes]) -> Sum:
        """What is kept, as it is."""
        return Sum((1.0,))


@dataclass(frozen=True)
class Ram(Elementwise):
    """Reinforced Agent Merging (Yuan 2026): what one model alone changes is added whole.

    Where several models change an element, it is the mean of their changes.

    Attributes:
        count: Number of models, the base left out.
        threshold: Changes up to this size are none, `epsilon` in a recipe.
        gain: RAM+ multiplies what one model alone changes by 1 + gain min(rho, bound), rho the
            number of elements that it shares over that of those it alone changes, in the tensor.
        bound: See there.

    Example:
        >>> sizes = [Sizes(0, 0, 0, 100, shared=30, alone=20), Sizes(0, 0, 0, 100, shared=30)]
        >>> Ram(2, gain=0.5, bound=2.0).sum(sizes).factors
        (1.75, 2.0)
    """

    count: int
    threshold: float = 1e-5
    gain: float = 0.0
    bound: float = 0.0
    name: str = "ram"
    seed = 0

    @property
    def sparsifiers(self) -> tuple[Sparsifier, ...]:
        """What counts as a change."""
        return (Larger(limit=self.threshold),) * self.count

    @property
    def weights(self) -> ModelWeights:
        """Weights of base and models, as if all changed every element."""
        return (0.0, *(1 / self.count,) * self.count)

    @property
    def needs_sizes(self) -> bool:
        """RAM+ counts what is shared first."""
        return self.gain > 0 and self.bound > 0

    @property
    def needs_overlaps(self) -> bool:
        """Whether overlaps are all that it needs of sizes."""
        return self.needs_sizes

    def sum(self, sizes: Sequence[Sizes]) -> Joined:
        """The sum for one tensor, by the overlaps of RAM+."""
        return Joined(tuple(self._factor(each) for each in sizes) or (1.0,) * self.count)

    def _factor(self, found: Sizes) -> float:
        """What multiplies the changes that one model alone makes."""
        return 1 + self.gain * min(found.shared / max(found.alone, 1), self.bound)
