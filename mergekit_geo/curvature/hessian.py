"""Products of the Hessian of the mean loss with vectors.

Exact: reverse over reverse (Pearlmutter 1994), batch by batch, with the attention kernel that can
be differentiated twice. Else central differences of gradients: two gradients, right to the square
of the step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn.attention import SDPBackend, sdpa_kernel

from mergekit_geo.curvature.levels import DIFFERENCES, EXACT, PRODUCT_COST
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.errors import GeoError
from mergekit_geo.processes import all_reduce, gather

STEPS = {torch.float32: 3e-3, torch.float64: 1e-4}
RANGE = 10.0
"""Factor by which a fitted step may differ from these."""

CHANGE = {torch.float32: 1e-5, torch.float64: 1e-8}
"""What a step should change the loss by: the error from rounding falls with the step, that from the
loss being no parabola grows with its square, and both are small here (on a small Llama 3e-4 of
λ_max and less)."""


class Hessian:
    """The Hessian of a mean loss, as an operator on vectors (n,).

    Args:
        loss: The function.
        method: `exact`, or `finite differences`; the first gives way to the second where it fails.
        step: Length of a difference's step in weight space; the dtype's default if None.

    Attributes:
        reason: Why products are not exact though they should have been; empty if they are.
    """

    def __init__(self, loss: MeanLoss, method: str = EXACT, step: float | None = None) -> None:
        self.loss, self.method, self.reason = loss, method, ""
        self._checked = False
        self._graph: tuple[list[int], Sequence[Tensor], float] | None = None
        self.step = STEPS[loss.weights.dtype] if step is None else step

    def product(self, vector: Tensor) -> Tensor:
        """H v: (n,)."""
        if self.method == EXACT:
            found = self._exact(vector)
            if found is not None:
                return found
        return self._difference(vector)

    def fit_step(self, direction: Tensor) -> None:
        """Choose the step by the curvature along a unit direction."""
        self.step = self._wanted(float(direction @ self._difference(direction)))

    def shorten_step(self, curvature: float) -> bool:
        """Whether differences were much too long for a curvature; from now on they are not.

        Args:
            curvature: The largest that was found with them.
        """
        if not self.is_too_long(curvature):
            return False
        self.step = self._wanted(curvature)
        return True

    def is_too_long(self, curvature: float) -> bool:
        """Whether the step of differences is much too long for a curvature."""
        return self.method == DIFFERENCES and self._wanted(curvature) <= self.step / 2

    def _wanted(self, curvature: float) -> float:
        dtype = self.loss.weights.dtype
        wanted = math.sqrt(2 * CHANGE[dtype] / max(abs(curvature), 1e-12))
        return min(max(wanted, STEPS[dtype] / RANGE), STEPS[dtype] * RANGE)

    def _difference(self, vector: Tensor) -> Tensor:
        length = float(vector.norm())
        if length == 0:
            return torch.zeros_like(vector)
        weights, scale = self.loss.weights, self.step / length
        with weights.moved(vector, scale):
            _, ahead = self.loss.gradient()
        with weights.moved(vector, -scale):
            _, behind = self.loss.gradient()
        return ahead.sub_(behind).div_(2 * scale)

    def _exact(self, vector: Tensor) -> Tensor | None:
        """Exact product; None, from now on, where some process cannot compute it."""
        total, weight, reason = self.loss.weights.zeros(), 0.0, ""
        try:
            weight = self._accumulate(total, vector)
        except GeoError:
            raise
        except RuntimeError as error:  # memory, or a kernel without a second derivative
            reason = _reason(error)
        shares = gather([(weight, reason)])
        if reasons := [reason for _, reason in shares if reason]:
            self.method, self.reason = DIFFERENCES, reasons[0]
            return None
        return all_reduce(total).div_(sum(weight for weight, _ in shares))

    def _accumulate(self, total: Tensor, vector: Tensor) -> float:
        loss, weight = self.loss, 0.0
        views = [view.to(p.device) for view, p in zip(
            loss.weights.views(vector), loss.weights.parameters, strict=True)]  # fmt: skip
        with sdpa_kernel(SDPBackend.MATH):
            for slopes, share in self._slopes():
                loss.add(total, self._second(slopes, views))
                weight += share
                loss.spend(PRODUCT_COST)
        return weight

    def _slopes(self) -> Iterator[tuple[Sequence[Tensor], float]]:
        """Gradient of each batch's summed loss, with its graph, and the batch's weight.

        The graph of a single batch is kept while the weights stay where they are.
        """
        loss = self.loss
        versions = [parameter._version for parameter in loss.weights.parameters]
        if self._graph is not None and self._graph[0] == versions:
            yield self._graph[1:]
            return
        self._graph = None
        for losses, weights in loss.own_losses():
            scalar = losses.to(loss.weights.dtype) @ weights.to(loss.weights.dtype)
            slopes, share = loss.differentiate(scalar, again=True), float(weights.sum())
            self._require_second(slopes)
            if len(loss.batches) == 1:
                self._graph = (versions, slopes, share)
            yield slopes, share

    def _require_second(self, slopes: Sequence[Tensor]) -> None:
        """Look, once, for a node that cannot be differentiated again.

        torch leaves such a node out where it leads to no parameter, and with it a part of the
        product.
        """
        if not self._checked and any(node.name().endswith("::Error") for node in _nodes(slopes)):
            raise RuntimeError("a function is once_differentiable")
        self._checked = True

    def _second(self, slopes: Sequence[Tensor], views: Sequence[Tensor]) -> Sequence[Tensor]:
        along = torch.stack([(s * v).sum().cpu() for s, v in zip(slopes, views, strict=True)]).sum()
        if not along.requires_grad:  # the loss is linear
            return [torch.zeros_like(view) for view in views]
        return self.loss.differentiate(along, keep=self._graph is not None)


def _nodes(tensors: Sequence[Tensor]) -> Iterator[Node]:
    """Every node of the graph that these come from."""
    seen: set[Node] = set()
    todo = [tensor.grad_fn for tensor in tensors]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            todo += [before for before, _ in node.next_functions]


def _reason(error: RuntimeError) -> str:
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return "out of memory for the graph of an exact product"
    first = str(error).strip().splitlines()[0]
    return f"the model cannot be differentiated twice ({first})"
