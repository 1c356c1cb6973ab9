"""Weights of the modules that stand after a model, such as Dense, held beside a running module.

They are no part of it: its parameters are those of its checkpoint. A task that needs them finds
them here, those of the point where the module stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import Module

from mergekit_geo.checkpoints.module_folders import (
    MODULES,
    ModuleFolder,
    backbone_of,
    model_folder,
    read_modules,
)
from mergekit_geo.checkpoints.sources import original
from mergekit_geo.errors import UnsupportedError
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.modules import merged_modules

NAME = "_geo_modules"

State = Mapping[str, Tensor]


def weights_beside(model: Module) -> Mapping[int, State]:
    """Weights of the modules after a model, by place in its `modules.json`."""
    found: Mapping[int, State] = getattr(model, NAME, {})
    return found


def keep_beside(model: Module, states: Mapping[int, State]) -> None:
    """Give a running module the weights of modules after it, on its device and in its dtype."""
    like = next(model.parameters(), torch.empty(0))
    moved = {i: {name: _like(t, like) for name, t in state.items()} for i, state in states.items()}
    object.__setattr__(model, NAME, moved)


def stored_beside(folder: Path) -> dict[int, State]:
    """Weights of the modules after the model in a folder; none where it has no `modules.json`."""
    root = model_folder(folder)
    return {
        module.index: {
            name: tensor
            for file in module.weights
            for name, tensor in load_file(root / file).items()
        }
        for module in _weighted(root)
    }


def merged_beside(blend: Blend) -> dict[int, State]:
    """Weights of the modules after a blend's models, merged as these are.

    Raises:
        UnsupportedError: An anchor is no model with such modules, such as a bend of a path.
    """
    donor = original(blend.donor)
    if donor.root is None or not (donor.root / MODULES).is_file():
        return {}
    weighted = _weighted(donor.root)
    if weighted and (lacking := [a.name for a in blend.anchors if original(a).root is None]):
        raise UnsupportedError(
            f"{weighted[0].path} has weights, and {lacking[0]} has none for it: paths that are "
            "fitted, and planes, lead between models without their modules",
            where=donor.name,
            remedy="merge and measure them along lines or by slerp",
        )
    places = {Path(module.path): module.index for module in weighted}
    return {places[one.file.parent]: one.state for one in merged_modules(blend)}


def _weighted(root: Path) -> list[ModuleFolder]:
    backbone = backbone_of(root) if (root / MODULES).is_file() else ""
    return [one for one in read_modules(root) if one.weights and one.path != backbone]


def _like(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor.to(like.device, like.dtype if torch.is_floating_point(tensor) else None)
