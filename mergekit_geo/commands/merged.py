"""A merged model that is to be measured: a folder, or what stayed in memory."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.config.measures import Compute
from mergekit_geo.modules.beside import State, keep_beside
from mergekit_geo.modules.load import load_model
from mergekit_geo.modules.open import load_result


@dataclass(frozen=True)
class MergedState:
    """A merge that stayed in memory.

    Attributes:
        config: Of its architecture.
        state: Stored name to tensor.
        modules: Weights of the modules after it, by place.
    """

    config: Config
    state: dict[str, Tensor]
    modules: Mapping[int, State] = field(default_factory=dict)


MergedModel = Path | MergedState


def open_merged(output: MergedModel, donor: Checkpoint, compute: Compute) -> Module:
    """The module of a merge.

    Args:
        output: The merge.
        donor: Of its architecture.
        compute: How it is run.
    """
    gc.collect()
    if isinstance(output, Path):
        return load_model(output, compute)
    module = load_result(donor, output.state, compute)
    if output.modules:
        keep_beside(module, output.modules)
    return module
