"""A place in weight space: rules over models and more anchors, and what its losses are known by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.blend import Blend


@dataclass(frozen=True)
class Point:
    """A place in weight space, whatever holds the models' weights.

    Attributes:
        rule: Weighs the models, then the extra anchors.
        title: What it is, such as `a + b`.
        key: What its losses are known by: of the same key, they are measured once.
        models: Indices of the models that the rule weighs; None for all of them, in order.
        extra: Anchors beside the models: bends of paths, directions.
        rules: By tensor, where one has a rule of its own.
        takers: By tensor, positions of the models that it is made of, where these are not all.
        dtype: Of its float tensors, as safetensors names it; the first anchor's if None.

    Example:
        >>> Point.mean([0, 2], ["a", "b", "c"]).rule.weights
        (0.5, 0.0, 0.5)
    """

    rule: Rule
    title: str
    key: str
    models: tuple[int, ...] | None = None
    extra: tuple[Checkpoint, ...] = ()
    rules: Mapping[str, Rule] = field(default_factory=dict)
    takers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dtype: str | None = None

    @classmethod
    def model(cls, index: int, name: str) -> Point:
        """The place of a model's own weights."""
        return cls(Linear((1.0,)), name, f"model {index}", (index,))

    @property
    def alone(self) -> int | None:
        """Index of the model whose own weights stand here; None at any other place."""
        (index,) = self.models if self.models and len(self.models) == 1 else (None,)
        return index if self.key == f"model {index}" else None

    @classmethod
    def mean(
        cls, members: Sequence[int], names: Sequence[str], title: str = "", dtype: str | None = None
    ) -> Point:
        """The uniform soup of some models.

        Args:
            members: Their indices, repeated where one counts twice.
            names: Of all models.
            title: Their names if empty.
            dtype: As which it is measured.
        """
        weights = tuple(members.count(i) / len(members) for i in range(len(names)))
        title = title or " + ".join(names[i] for i in members)
        return cls(Linear(weights), title, f"soup {sorted(members)}").stored_as(dtype)

    def stored_as(self, dtype: str | None) -> Point:
        """The place as it is where float tensors are stored in a dtype, which rounds them."""
        return replace(self, key=f"{self.key} {dtype}", dtype=dtype) if dtype else self

    def over_all(self, count: int) -> Point:
        """Copy whose rule is over all of `count` models, where it is over one."""
        if self.models is None:
            return self
        (model,) = self.models
        alone = Linear(tuple(float(i == model) for i in range(count)))
        return replace(self, rule=alone, models=None)

    def blend(self, models: Sequence[Checkpoint], dtype: str | None = None) -> Blend:
        """The weights at this place.

        Args:
            models: All of them.
            dtype: Of the float tensors; the place's own if None.
        """
        own = models if self.models is None else [models[i] for i in self.models]
        return Blend((*own, *self.extra), self.rule, dtype or self.dtype, self.rules, self.takers)
