"""Tensor names of an architecture, from a model that transformers makes without weights.

Loads torch and transformers: `naming` comes here only where names have to be known.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.pytorch_utils import Conv1D

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.loading import load_config, own_class
from mergekit_geo.checkpoints.naming import Schema


def known_schema(config: Config) -> Schema:
    """The schema of the first architecture that a configuration names.

    Empty where transformers does not know it, or cannot make it.
    """
    architecture = own_class(config["architectures"][0])
    if architecture is None:
        return Schema()
    try:
        return _schema(architecture, load_config(config))
    except Exception:  # whatever a model's own code raises: names are then compared as stored
        return Schema()


def _schema(architecture: Any, config: Any) -> Schema:
    with torch.device("meta"):
        model = architecture(config)
    mapping = get_model_conversion_mapping(model)
    renamings: list[Any] = [one for one in mapping if isinstance(one, WeightRenaming)]
    converters: list[Any] = [one for one in mapping if isinstance(one, WeightConverter)]
    expected = dict(model.state_dict())

    def loaded(stored: str) -> str:
        return rename_source_key(stored, renamings, [], model.base_model_prefix, expected)[0]

    return Schema(
        expected,
        dict(model.all_tied_weights_keys),
        loaded,
        lambda name: rename_source_key(name, [], converters)[1] is not None,
        frozenset(f"{n}.weight" for n, layer in model.named_modules() if isinstance(layer, Conv1D)),
        _patterns(model, "_keys_to_ignore_on_load_unexpected"),
        _patterns(model, "_keys_to_ignore_on_load_missing"),
    )


def _patterns(model: Any, attribute: str) -> tuple[str, ...]:
    """Patterns that a model's class and those of its parts declare."""
    parts = (getattr(part, attribute, None) or () for part in model.modules())
    return tuple(sorted({str(pattern) for part in parts for pattern in part}))
