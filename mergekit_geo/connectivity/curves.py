"""Bends of a curve that are being fitted: vectors that are anchors at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.dtypes import DTYPE_NAMES
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.geometry.curves import Curve, start_weights
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.stream import stream
from mergekit_geo.modules.blend import InPlace
from mergekit_geo.modules.weights import Weights


class Bends:
    """The bends of a curve between two models.

    Parameters are trained and lie in one flat vector a bend, in the module's order; buffers stay
    where they were on the segment.

    Args:
        ends: The two models.
        curve: How many bends there are, and where they start.
        live: The module that runs along the curve.

    Attributes:
        vectors: (n,) each, on the module's device and in its dtype.

    Raises:
        UnsupportedError: A trainable parameter of the module is not stored under its own name.
    """

    def __init__(self, ends: Sequence[Checkpoint], curve: Curve, live: InPlace) -> None:
        self.ends, self.curve = tuple(ends), curve
        self.weights = Weights(live.model)
        device = self.weights.parameters[0].device
        self.vectors = [self.weights.zeros().to(device) for _ in range(curve.bends)]
        self.dtype = DTYPE_NAMES[self.weights.dtype]
        places = self.weights.places(live.parameters())
        self.anchors = tuple(
            self._on_segment(weights, self.weights.views(vector), places, f"bend {i + 1}")
            for i, (vector, weights) in enumerate(
                zip(self.vectors, start_weights(curve), strict=True)
            )
        )
        self.live = live
        self._flat_ends = self._ends_at_hand(len(places) == len(live.parameters()))

    def put(self, rule: Linear) -> None:
        """Give the module's parameters a point of the curve, as `at`, to train them there.

        In one sum of flat vectors where the ends are in memory; else streamed. Buffers are left
        alone in the first way: BatchNorm in training does not look at them.
        """
        if self._flat_ends is None:
            self.live.put(self.at(rule))
            return
        with torch.no_grad():
            vectors = [*self._flat_ends, *self.vectors]
            total = vectors[0] * rule.weights[0]
            for vector, weight in zip(vectors[1:], rule.weights[1:], strict=True):
                total.add_(vector, alpha=weight)
            self.weights.put(total)

    def _ends_at_hand(self, all_trained: bool) -> list[Tensor] | None:
        """The ends as flat vectors if they are in memory already; else None."""
        on_disk = [end.folder and not end.in_memory for end in self.ends]
        return None if any(on_disk) or not all_trained else self.ends_in_memory()

    def ends_in_memory(self) -> list[Tensor]:
        """The trained parameters of both ends: (n,) each."""
        found = []
        for end in self.ends:
            self.live.put(Blend((end,), Linear((1.0,)), self.dtype))
            found.append(self.weights.vector().to(self.vectors[0].device))
        return found

    def at(self, rule: Linear) -> Blend:
        """A point of the curve, in the module's dtype."""
        return Blend((*self.ends, *self.anchors), rule, self.dtype)

    def states(self) -> list[Mapping[str, Tensor]]:
        """Stored name to tensor of each bend, as it is now."""
        return [anchor.state or {} for anchor in self.anchors]

    def _on_segment(
        self,
        weights: tuple[float, float],
        views: Sequence[Tensor],
        places: Mapping[str, int],
        name: str,
    ) -> Checkpoint:
        """A bend on the straight line; its parameters share memory with its vector."""
        blend = Blend(self.ends, Linear(weights), self.dtype)
        sink = MemorySink(blend)
        stream(blend, sink)
        state = {key: t for key, t in sink.state.items() if blend.donor.tensors[key].is_float}
        with torch.no_grad():
            for key, number in places.items():
                views[number].copy_(state[key].view(views[number].shape))
                state[key] = views[number]
        return of_state(state, name)
