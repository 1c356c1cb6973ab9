"""A merged model as a point in weight space: anchors, and a rule that weighs them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.geometry.by_row import ByRow
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.masked import Elementwise
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.whole import Whole

STATISTICS = ("running_mean", "running_var")
"""Last parts of the names of float buffers, which take convex weights."""

BOUNDS = ("input_min", "input_max", "output_min", "output_max")
"""Those of what layers clip to (Gemma 4): so do these, and they are infinite where none is set."""


def has_statistics(names: Iterable[str]) -> bool:
    """Whether tensors of these names include running statistics.

    Example:
        >>> has_statistics(["layer1.bn.running_mean"]), has_statistics(["lm_head.weight"])
        (True, False)
    """
    return any(name.rpartition(".")[2] in STATISTICS for name in names)


def is_bound(name: str) -> bool:
    """Whether a tensor of this name is what a layer clips to, which may be infinite.

    Example:
        >>> is_bound("layers.0.ffw_layer_1.input_max"), is_bound("layers.0.ffw_layer_1.weight")
        (True, False)
    """
    return name.rpartition(".")[2] in BOUNDS


class Role(Enum):
    """How a tensor takes part in a merge."""

    PARAMETER = "parameter"
    STATISTIC = "statistic"
    DONATED = "donated"


@dataclass(frozen=True)
class Blend:
    """Anchors and a rule.

    Attributes:
        anchors: Checkpoints with the same tensor names and shapes, but for `takers`; the first is
            the donor of what is not averaged (integers, configuration, tokenizer).
        rule: Gives each parameter its coefficients.
        dtype: Of every float tensor in the output, as safetensors names it; the donor's if None.
        rules: By tensor, where one has a rule of its own.
        takers: By tensor, positions of the anchors that it is made of, where these are not all; its
            rule is over these alone.
        layout: Names of the output's tensors in their order, where they are not the donor's.
    """

    anchors: tuple[Checkpoint, ...]
    rule: Rule
    dtype: str | None = None
    rules: Mapping[str, Rule] = field(default_factory=dict)
    takers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    layout: tuple[str, ...] | None = None

    @cached_property
    def _own(self) -> frozenset[str]:
        """What only some anchors have, or is to be copied."""
        others = [anchor.tensors for anchor in self.anchors[1:]]
        own = (name for name in self.donor.tensors if name not in self.takers)
        return self.donor.copied.union(
            name for name in own if any(name not in other for other in others)
        )

    @property
    def donor(self) -> Checkpoint:
        """The first anchor."""
        return self.anchors[0]

    def anchors_of(self, name: str) -> tuple[Checkpoint, ...]:
        """The anchors that a tensor is made of."""
        taken = self.takers.get(name)
        return self.anchors if taken is None else tuple(self.anchors[i] for i in taken)

    def infos(self, name: str) -> list[TensorInfo]:
        """What the header of each anchor that a tensor is made of says of it."""
        return [anchor.tensors[name] for anchor in self.anchors_of(name)]

    def first(self, name: str) -> TensorInfo:
        """What the header of the first of these says."""
        return self.anchors_of(name)[0].tensors[name]

    def output_info(self, name: str) -> TensorInfo:
        """Dtype and shape of a tensor in the output."""
        info = self.first(name)
        if self.role(name) is Role.DONATED:
            return info
        return TensorInfo(self.dtype or info.written or info.dtype, info.shape)

    def outputs(self) -> dict[str, TensorInfo]:
        """Every tensor of the output, in the order of the layout or the donor."""
        names = self.donor.tensors if self.layout is None else self.layout
        return {name: self.output_info(name) for name in names}

    def role(self, name: str) -> Role:
        """Parameters follow the rule, statistics stay convex; integers are the donor's.

        So is what the others lack.
        """
        if not self.first(name).is_float or name in self._own:
            return Role.DONATED
        last = name.rpartition(".")[2]
        return Role.STATISTIC if last in (*STATISTICS, *BOUNDS) else Role.PARAMETER

    def rule_for(self, name: str) -> Rule:
        """The rule, or its convex weights for a statistic; what it leaves others takes another."""
        rule = self.rules.get(name, self.rule)
        if self.role(name) is Role.STATISTIC:
            return Linear(rule.convex, branch="linear: statistic")
        if isinstance(rule, Whole) and not rule.takes(name, self.first(name)):
            return rule.others
        return rule

    def work(self, names: Iterable[str] | None = None) -> int:
        """Elements to be gone through, as often as the rule reads them; all by default."""
        outputs = self.outputs() if names is None else {n: self.output_info(n) for n in names}
        return sum(info.count * self.passes(name) for name, info in outputs.items())

    def passes(self, name: str) -> int:
        """How often a tensor is gone through."""
        if self.role(name) is Role.DONATED:
            return 1
        rule = self.rule_for(name)
        return rule.passes if isinstance(rule, Elementwise | ByRow | Whole) else 1 + rule.needs_gram
