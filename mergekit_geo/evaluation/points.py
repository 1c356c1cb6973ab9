"""Losses at points between models, each measured once: in one module, and kept for a later run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.evaluation.cache import LossCache
from mergekit_geo.evaluation.evaluation import Evaluator
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.modules.blend import Live
from mergekit_geo.tasks.losses import Losses


class PathOfModels(Protocol):
    """A path between two models."""

    @property
    def name(self) -> str:
        """Kind of path."""

    @property
    def key(self) -> str:
        """Key of its points in the cache."""

    def at(self, ends: Sequence[Checkpoint], t: float) -> Blend:
        """The point at t of the path from the first of two models to the second."""


class _Gone:
    """Placeholder for a module that was released."""

    @property
    def model(self) -> Module:
        raise AssertionError("the walk is over")

    def put(self, blend: Blend) -> None:
        raise AssertionError("the walk is over")


@dataclass
class Walk:
    """Takes one module from point to point.

    Attributes:
        anchors: The models.
        live: The module.
        evaluator: Measures it.
        refresh: Called on the module after each move between models (BatchNorm statistics).
        refresh_models: Whether it is called at the models themselves, too.
        kept: Where finished points are, None to keep none.
    """

    anchors: Sequence[Checkpoint]
    live: Live
    evaluator: Evaluator
    refresh: Callable[[Module], object] = lambda module: None
    refresh_models: bool = True
    kept: LossCache | None = None
    _seen: dict[str, Losses] = field(default_factory=dict)

    def at_model(self, index: int) -> Losses:
        """Losses of one of the models."""
        blend = Blend((self.anchors[index],), Linear((1.0,)))
        return self.at(self.anchors[index].name, blend, f"model {index}")

    def between(self, first: int, second: int, route: PathOfModels, t: float) -> Losses:
        """Losses on a path between two models."""
        if t in (0.0, 1.0):
            return self.at_model(second if t else first)
        pair = (self.anchors[first], self.anchors[second])
        title = f"{pair[0].name} to {pair[1].name}, {route.name}, t = {t:.3f}"
        key = f"{route.key} {first} {second} {t!r}"
        return self.at(title, route.at(pair, t), key)

    def at(self, title: str, blend: Blend, key: str) -> Losses:
        """Losses at any blend of the models.

        Args:
            title: For the progress.
            blend: Where to go.
            key: What the point is known by; the same key is measured once.
        """
        if key not in self._seen:
            found = self.kept.get(key) if self.kept else None
            self._seen[key] = found or self._measure(title, blend, key)
        return self._seen[key]

    def go_to(self, blend: Blend) -> None:
        """Give the module the weights of a blend, and statistics of its own."""
        self.live.put(blend)
        if self.refresh_models or len(blend.anchors) > 1:
            self.refresh(self.live.model)

    def leave(self) -> None:
        """Release the module; losses that were measured stay cached."""
        self.live = _Gone()

    def _measure(self, title: str, blend: Blend, key: str) -> Losses:
        self.go_to(blend)
        found = self.evaluator.measure_any(title, self.live.model)
        if self.kept:
            require_unchanged(self.anchors)
            self.kept.put(key, found)
        return found
