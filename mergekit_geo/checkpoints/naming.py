"""Canonical tensor names: what transformers would call a stored tensor once loaded.

Asked only when the names of two checkpoints differ, so that an ordinary merge does not wait for
transformers to be imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mergekit_geo.checkpoints.checkpoint import Config

RECOMPUTED = ("position_ids", "inv_freq", "masked_bias")
"""Last parts of the names of buffers that models make anew and old checkpoints still hold."""

COUNTERS = ("num_batches_tracked",)
"""Last parts of the names of counters, which come from the donor."""


def is_counter(name: str) -> bool:
    """Whether a tensor counts steps.

    Example:
        >>> is_counter("layer1.bn.num_batches_tracked")
        True
    """
    return name.rpartition(".")[2] in COUNTERS


@dataclass(frozen=True)
class Schema:
    """What an architecture calls its tensors.

    Attributes:
        expected: Names in the loaded model; empty where the architecture is not known.
        ties: Tied name to the name of the tensor it shares.
        renamings: transformers' renamings from stored to loaded names.
        prefix: The base model's attribute, such as `model` or `transformer`.
        transposed: Names of weights that are stored (in, out), as GPT-2's are.
    """

    expected: dict[str, object] = field(default_factory=dict)
    ties: dict[str, str] = field(default_factory=dict)
    renamings: tuple[object, ...] = ()
    prefix: str = ""
    transposed: frozenset[str] = frozenset()

    def canonical(self, stored: str) -> str:
        """The loaded name of a stored tensor; itself where transformers does not know it."""
        if not self.expected:
            return stored
        from transformers.core_model_loading import rename_source_key

        name, _ = rename_source_key(stored, list(self.renamings), [], self.prefix, self.expected)  # type: ignore[arg-type]
        return name

    def is_superfluous(self, name: str) -> bool:
        """Whether a model works without this stored tensor."""
        last = name.rpartition(".")[2]
        if last in RECOMPUTED or is_counter(name):
            return True
        return last == "bias" and bool(self.expected) and name not in self.expected


def schema_of(config: Config) -> Schema:
    """The schema of a configuration's architecture, made without memory for its weights.

    An architecture that transformers does not know, or cannot make, has an empty one.
    """
    names = config.get("architectures") or []
    if not names:
        return Schema()
    import transformers

    architecture = getattr(transformers, names[0], None)
    if architecture is None:
        return Schema()
    try:
        return _schema(architecture, transformers.AutoConfig.for_model(**config))
    except Exception:  # whatever a model's own code raises: names are then compared as stored
        return Schema()


def _schema(architecture: Any, config: Any) -> Schema:
    import torch
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming
    from transformers.pytorch_utils import Conv1D

    with torch.device("meta"):
        model = architecture(config)
    renamings = [r for r in get_model_conversion_mapping(model) if isinstance(r, WeightRenaming)]
    return Schema(
        dict(model.state_dict()),
        dict(model.all_tied_weights_keys),
        tuple(renamings),
        model.base_model_prefix,
        frozenset(f"{n}.weight" for n, layer in model.named_modules() if isinstance(layer, Conv1D)),
    )
