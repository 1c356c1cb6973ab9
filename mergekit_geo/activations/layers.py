"""The linear layers of a module, by the stored weight that each of them applies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from torch.nn import Module
from transformers.pytorch_utils import Conv1D

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.naming import schema_of
from mergekit_geo.errors import UnsupportedError
from mergekit_geo.modules.blend import module_names

MATRIX = 2
"""Dimensions of a weight."""


@dataclass(frozen=True)
class LinearLayer:
    """A weight, and the modules that multiply their inputs by it.

    Attributes:
        weight: Its name in the checkpoint.
        modules: Names of the modules: more than one where layers share the weight.
        width: Number of input features, w: the Gram matrix is (w, w).
        by_column: Whether it is stored (in, out), as GPT-2's `Conv1D` is, and not (out, in).
    """

    weight: str
    modules: tuple[str, ...]
    width: int
    by_column: bool = False


def linear_layers(model: Module, checkpoint: Checkpoint) -> tuple[LinearLayer, ...]:
    """The linear layers whose weight a checkpoint stores, in the order of the module.

    `nn.Linear` and `Conv1D` of transformers. A head that shares the weight of the embeddings is
    none: what is looked up has no regression, and the authors' own code leaves it out. A weight
    that the module makes of several stored ones, as fused experts are, has none either.

    Args:
        model: A module of the checkpoint's architecture.
        checkpoint: Names the weights.

    Raises:
        UnsupportedError: There is none.

    Example:
        >>> from mergekit_geo.checkpoints.reference import open_checkpoints
        >>> model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> [one.weight for one in linear_layers(model, open_checkpoints([model])[0])]
        ['0.weight', '2.weight']
    """
    stored = _stored_names(model, checkpoint)
    looked_up = {id(one.weight) for one in model.modules() if isinstance(one, nn.Embedding)}
    modules: defaultdict[str, list[str]] = defaultdict(list)
    found: dict[str, LinearLayer] = {}
    for path, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.Linear | Conv1D) and id(weight) in stored.keys() - looked_up:
            name, by_column = stored[id(weight)], isinstance(module, Conv1D)
            modules[name].append(path)
            width = weight.shape[0 if by_column else 1]  # type: ignore[union-attr]
            found[name] = LinearLayer(name, tuple(modules[name]), width, by_column)
    if not found:
        raise UnsupportedError(
            "the architecture has no linear layers whose inputs a regression could be made on",
            where=checkpoint.name,
            remedy="merge by --method linear, or by another one that needs no data",
        )
    return tuple(found.values())


def _stored_names(model: Module, checkpoint: Checkpoint) -> Mapping[int, str]:
    """Stored name of each of the module's parameters, by identity: tied ones are one."""
    names = module_names(model, checkpoint) or _those_alike(model, checkpoint)
    own = dict(model.named_parameters(remove_duplicate=False))
    return {id(own[name]): stored for stored, name in names.items() if name in own}


def _those_alike(model: Module, checkpoint: Checkpoint) -> dict[str, str]:
    """Stored to own name of what is loaded as it is stored, where other tensors are converted."""
    schema, state = schema_of(checkpoint.config), model.state_dict()
    names = {stored: schema.canonical(stored) for stored in checkpoint.tensors}
    return {
        stored: name
        for stored, name in names.items()
        if name in state and tuple(state[name].shape) == checkpoint.tensors[stored].shape
    }
