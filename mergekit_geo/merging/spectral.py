"""Methods on whole task matrices: singular vectors, isotropic spectra, KnOTS and WUDI.

What they take are the weights of linear layers. Tensors of other shapes, embeddings and heads are
averaged, b + lambda sum w_i v_i / T over T models (of KnOTS: merged by TIES or DARE).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.masked import Masked
from mergekit_geo.geometry.rule import ModelWeights, Rule
from mergekit_geo.geometry.sparsifiers import Dropout, TopK
from mergekit_geo.limits import Interval
from mergekit_geo.merging.method import BaseUse, Method
from mergekit_geo.merging.parameter import NORMALIZE, SCALE_OF_SUM, WEIGHT, Parameter, SearchRange
from mergekit_geo.merging.sparsified import KEPT, SCALES
from mergekit_geo.merging.whole import Made, Whole, no_tick

if TYPE_CHECKING:
    from torch import Tensor

    from mergekit_geo.merging.matrices.solved import Solved

WIDE = 8
"""Bytes of an element in float64."""

COPIES, MATRICES, SQUARES = 3, 5, 8
"""What is held at most: copies of the anchors, further matrices of their shape, and square ones as
wide as the shorter side, with what the eigenproblem takes (`benchmarks/spectral.py` measures)."""


class TaskMatrices(Whole):
    """b + scale X, where X is made of the task matrices w_i (a_i - b)."""

    step: ModelWeights
    scale: float
    outputs_first = True

    @property
    def weights(self) -> ModelWeights:
        """Weights of base and models, as if the task matrices were averaged."""
        scaled = tuple(self.scale * weight / len(self.step) for weight in self.step)
        return (1.0 - sum(scaled), *scaled)

    @property
    def others(self) -> Rule:
        """The mean."""
        return Linear(self.weights)

    def memory(self, shape: tuple[int, ...], count: int) -> int:
        """Bytes that one tensor of `count` anchors takes at most."""
        rows, columns = shape
        whole = (COPIES * count + MATRICES) * rows * columns
        return WIDE * (whole + SQUARES * min(rows, columns) ** 2)

    def make(
        self, name: str, tensors: Sequence[Tensor], device: str, tick: Callable[[], None] = no_tick
    ) -> Made:
        """Merge one tensor."""
        base, *models = tensors
        weighted = zip(models, self.step, strict=True)
        found = self.solved(
            name, [model.sub_(base).mul_(weight) for model, weight in weighted], tick
        )
        branch = f"{self.name}: {found.how}" if found.how else self.name
        return Made(base + self.scale * found.matrix, branch, found.error)

    def solved(self, name: str, tasks: Sequence[Tensor], tick: Callable[[], None]) -> Solved:
        """The merged task matrix of the tensor of this name."""
        raise NotImplementedError


@dataclass(frozen=True)
class TaskSingularVectors(TaskMatrices):
    """Task singular vectors (Gargiulo 2025).

    Example:
        >>> TaskSingularVectors((1.0, 1.0)).weights
        (0.0, 0.5, 0.5)
    """

    step: ModelWeights
    scale: float = 1.0
    name = "tsv"

    def solved(self, name: str, tasks: Sequence[Tensor], tick: Callable[[], None]) -> Solved:
        """The merged task matrix."""
        from mergekit_geo.merging.matrices.singular import task_singular_vectors

        return task_singular_vectors(tasks, _seed(name), tick)


@dataclass(frozen=True)
class Isotropic(TaskMatrices):
    """Isotropic merging in the common subspace (Marczak 2025)."""

    step: ModelWeights
    scale: float = 1.0
    name = "iso_c"

    def solved(self, name: str, tasks: Sequence[Tensor], tick: Callable[[], None]) -> Solved:
        """The merged task matrix."""
        from mergekit_geo.merging.matrices.singular import isotropic

        return isotropic(tasks, _seed(name))


@dataclass(frozen=True)
class IsotropicWithTasks(TaskMatrices):
    """Isotropic merging in common and task-specific subspaces (Marczak 2025).

    Attributes:
        common: Share of the directions that are the sum's.
    """

    step: ModelWeights
    scale: float = 1.0
    common: float = 0.8
    name = "iso_cts"

    def solved(self, name: str, tasks: Sequence[Tensor], tick: Callable[[], None]) -> Solved:
        """The merged task matrix."""
        from mergekit_geo.merging.matrices.singular import isotropic_with_tasks

        return isotropic_with_tasks(tasks, self.common, _seed(name), tick)


@dataclass(frozen=True)
class Knots(TaskMatrices):
    """KnOTS (Stoica 2024): TIES or DARE in the coordinates of a common basis.

    Attributes:
        inner: The rule by elements, over the base and the models: of aligned task matrices, and of
            all other tensors as they are.
    """

    inner: Masked
    name = "knots"
    scale = 1.0

    @property
    def step(self) -> ModelWeights:  # type: ignore[override]
        """Weights of one: the rule by elements weighs the task matrices."""
        return (1.0,) * len(self.inner.step)

    @property
    def weights(self) -> ModelWeights:
        """Weights of base and models, as if every element were kept and all signs agreed."""
        return self.inner.weights

    @property
    def others(self) -> Rule:
        """Apply the same masks to the tensors as they are."""
        return self.inner

    def memory(self, shape: tuple[int, ...], count: int) -> int:
        """Bytes that one tensor of `count` anchors takes at most."""
        return super().memory(shape, count) + WIDE * count * shape[0] * shape[1]

    def solved(self, name: str, tasks: Sequence[Tensor], tick: Callable[[], None]) -> Solved:
        """The merged task matrix."""
        from mergekit_geo.merging.matrices.knots import knots

        return knots(name, tasks, self.inner, _seed(name))


@dataclass(frozen=True)
class Wudi(TaskMatrices):
    """WUDI (Cheng 2025).

    Attributes:
        least_squares: The minimum itself, not 300 steps of Adam towards it.
    """

    step: ModelWeights
    scale: float = 1.0
    least_squares: bool = False
    name = "wudi"

    def memory(self, shape: tuple[int, ...], count: int) -> int:
        """Bytes that one tensor of `count` anchors takes at most."""
        return super().memory(shape, count) + WIDE * 4 * shape[1] ** 2

    def solved(self, name: str, tasks: Sequence[Tensor], tick: Callable[[], None]) -> Solved:
        """The merged task matrix."""
        from mergekit_geo.merging.matrices import wudi

        if self.least_squares:
            return wudi.by_least_squares(tasks, _seed(name))
        return wudi.by_adam(tasks, tick)


def _seed(name: str) -> int:
    """Seed of random directions: the tensor's own, whatever the order of work."""
    return zlib.crc32(name.encode())


def _of(kind: Callable[..., TaskMatrices]) -> Callable[..., Rule]:
    """Make a rule from what a call says."""

    def rule(
        weights: ModelWeights, lambda_: float, count: int, has_base: bool, seed: int, **own: float
    ) -> Rule:
        return kind(weights, lambda_, **own)

    return rule


def _knots(
    weights: ModelWeights, density: ModelWeights, lambda_: float, normalize: bool, dare: bool,
    seed: int, **_: object,
) -> Rule:  # fmt: skip
    kept = tuple(Dropout(share) if dare else TopK(share) for share in density)
    return Knots(Masked("knots", weights, kept, dare, True, normalize, lambda_, seed))


SCALE = replace(SCALE_OF_SUM, searched=SCALES)
COMMON = Parameter(
    "common", "Share of the directions that are the sum's, not the single models'.", 0.8,
    Interval(0, 1), searched=SearchRange(0.5, 1),
)  # fmt: skip
DARE = Parameter("dare", "Keep elements at random, rescaled, not the largest.", default=False)
LEAST_SQUARES = Parameter(
    "least_squares", "Solve for the minimum, not 300 steps of Adam towards it.", default=False
)

TSV = Method(
    "tsv",
    "b + lambda U diag(s) V', of each w_i v_i the first 1/T singular triplets, U and V of all made "
    "orthogonal",
    "Gargiulo 2025", _of(TaskSingularVectors), (WEIGHT, SCALE), BaseUse.REQUIRED,
)  # fmt: skip
ISO_C = Method(
    "iso_c", "b + lambda mean(s) U V', U diag(s) V' = sum w_i v_i", "Marczak 2025", _of(Isotropic),
    (WEIGHT, SCALE), BaseUse.REQUIRED, least=2,
)  # fmt: skip
ISO_CTS = Method(
    "iso_cts",
    "iso_c of the first directions of sum w_i v_i and of each w_i v_i's own beside these",
    "Marczak 2025", _of(IsotropicWithTasks), (WEIGHT, SCALE, COMMON), BaseUse.REQUIRED, least=2,
)  # fmt: skip
KNOTS = Method(
    "knots",
    "b + U M, M = ties or dare_ties of the U' v_i, U the left singular vectors of [v_1 ... v_T]",
    "Stoica 2024", _knots, (WEIGHT, KEPT, SCALE, NORMALIZE, DARE), BaseUse.REQUIRED, least=2,
)  # fmt: skip
WUDI = Method(
    "wudi",
    "b + lambda X, X from sum w_i v_i towards the least sum |(X - w_i v_i) (w_i v_i)'|^2 / "
    "|w_i v_i|^2",
    "Cheng 2025", _of(Wudi), (WEIGHT, SCALE, LEAST_SQUARES), BaseUse.REQUIRED, least=2,
)  # fmt: skip
