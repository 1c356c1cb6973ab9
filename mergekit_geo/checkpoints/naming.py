"""Canonical tensor names: what transformers would call a stored tensor once loaded.

Asked only when the names of two checkpoints differ, so that an ordinary merge does not wait for
transformers to be imported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.components import configs_of, split_name

RECOMPUTED = ("position_ids", "inv_freq", "masked_bias")
"""Last name parts of buffers that models recompute, but old checkpoints still hold."""

MASK = re.compile(r"(?:^|\.)(?:attn|attention)\.bias$")
"""A causal mask of GPT-2 and its kin, where the architecture has no such parameter."""

BY_COLUMN = re.compile(r"\.(c_attn|c_proj|c_fc|q_attn)\.weight$")
"""Names of what may be a `Conv1D` of transformers, by architecture (GPT-2, OpenAI GPT, Image GPT,
Decision Transformer), or an ordinary linear layer (GPT-BigCode)."""

COUNTERS = ("num_batches_tracked", "num_updates")
"""Ends of the names of counters, which come from the donor."""


def may_be_buffer(name: str) -> bool:
    """Whether a name is that of a buffer which models recompute.

    Example:
        >>> may_be_buffer("h.0.attn.bias"), may_be_buffer("h.0.mlp.c_fc.bias")
        (True, False)
    """
    return name.rpartition(".")[2] in RECOMPUTED or bool(MASK.search(name))


def is_counter(name: str) -> bool:
    """Whether a tensor counts steps.

    Example:
        >>> is_counter("layer1.bn.num_batches_tracked")
        True
    """
    return name.endswith(COUNTERS)


@dataclass(frozen=True)
class Schema:
    """Tensor names of an architecture.

    Attributes:
        expected: Names in the loaded model; empty where the architecture is not known.
        ties: Tied name to the name of the tensor it shares.
        loaded: From a stored name to the loaded one.
        is_converted: Whether tensors of the model are made of a loaded name, as fused experts are.
        transposed: Names of weights that are stored (in, out), as GPT-2's are.
        ignored: Patterns of stored names that transformers leaves aside by declaration.
        optional: Patterns of names whose absence it declares to be no fault.
    """

    expected: dict[str, Any] = field(default_factory=dict)
    ties: dict[str, str] = field(default_factory=dict)
    loaded: Callable[[str], str] = str
    is_converted: Callable[[str], bool] = bool
    transposed: frozenset[str] = frozenset()
    ignored: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    def canonical(self, stored: str) -> str:
        """The loaded name of a stored tensor; itself where transformers does not know it."""
        return self.loaded(stored) if self.expected else stored

    def for_names(self, names: Collection[str]) -> Schema:
        """Drop the expected names where a checkpoint has fewer than half of them.

        Its own are then those of another library, or of another model.

        Args:
            names: All of the checkpoint, as they are loaded.
        """
        found = sum(name in names for name in self.expected)
        return self if 2 * found >= len(self.expected) else replace(self, expected={})

    def is_superfluous(self, name: str) -> bool:
        """Whether a model works without this stored tensor."""
        return self.is_buffer(name) or self._is_idle(name)

    def is_aside(self, name: str) -> bool:
        """Whether transformers ignores it, although it is not a recomputed buffer."""
        return self._is_idle(name) and not self.is_buffer(name)

    def is_buffer(self, name: str) -> bool:
        """Whether models compute it without a checkpoint."""
        if name.rpartition(".")[2] in RECOMPUTED or is_counter(name):
            return True
        return bool(MASK.search(name)) and bool(self.expected) and name not in self.expected

    def _is_idle(self, name: str) -> bool:
        """Whether models of this kind run without it: by declaration, or for want of a place."""
        if name in self.expected:
            return any(re.search(pattern, name) for pattern in self.optional)
        return self.is_ignored(name) or self.is_unknown(name)

    def is_ignored(self, name: str) -> bool:
        """Whether transformers declares that it leaves a stored tensor of this name aside."""
        return any(re.search(pattern, name) for pattern in self.ignored)

    def is_unknown(self, name: str) -> bool:
        """Whether nothing in the loaded model is called so, or made of it."""
        return bool(self.expected) and name not in self.expected and not self.is_converted(name)


def schema_of(config: Config) -> Schema:
    """The schema of a configuration's architecture, made without memory for its weights.

    An architecture that transformers does not know, or cannot make, has an empty one.
    """
    if components := configs_of(config):
        return _of_components({place: schema_of(one) for place, one in components.items()})
    if not config.get("architectures"):
        return Schema()
    from mergekit_geo.checkpoints.architecture import known_schema  # loads torch

    return known_schema(config)


def _of_components(schemas: Mapping[str, Schema]) -> Schema:
    """The schema of a pipeline: of its components, whose names begin with theirs."""
    every = schemas.items()

    def loaded(stored: str) -> str:
        place, own = split_name(stored)
        return f"{place}.{schemas[place].canonical(own)}" if place in schemas else stored

    def is_converted(name: str) -> bool:
        place, own = split_name(name)
        schema = schemas.get(place, Schema())
        return not schema.expected or schema.is_converted(own)

    return Schema(
        {f"{at}.{name}": one for at, schema in every for name, one in schema.expected.items()},
        {f"{at}.{n}": f"{at}.{own}" for at, schema in every for n, own in schema.ties.items()},
        loaded,
        is_converted,
    )


def is_transposed(name: str, config: Config) -> bool:
    """Whether a weight of a linear layer is stored (in, out), as GPT-2's are, and not (out, in).

    Args:
        name: As it is stored.
        config: Of the model; where it names no architecture, none is.

    Example:
        >>> is_transposed("h.0.attn.c_attn.weight", {"architectures": ["GPT2LMHeadModel"],
        ...     "model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 4})
        True
        >>> is_transposed("model.layers.0.mlp.up_proj.weight", {})
        False
    """
    if not BY_COLUMN.search(name):
        return False
    schema = _schema_of(json.dumps(config, sort_keys=True, default=str))
    return schema.canonical(name) in schema.transposed


@lru_cache(maxsize=4)
def _schema_of(config: str) -> Schema:
    return schema_of(json.loads(config))
