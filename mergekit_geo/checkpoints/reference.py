"""What a user calls a model: a folder, `org/name`, `org/name@revision`, or an object in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint, FolderCheckpoint
from mergekit_geo.checkpoints.memory import MemoryCheckpoint
from mergekit_geo.errors import ArgumentError, NotFoundError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    Model = str | Path | Module | Mapping[str, Tensor] | Checkpoint
    """Everything that names a model."""

REPOSITORY = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")


def open_checkpoints(models: Sequence[Model]) -> list[Checkpoint]:
    """The checkpoint of each model, as `open_checkpoint`.

    Raises:
        ArgumentError: One model instead of a list of them.
    """
    if isinstance(models, str | Path | Mapping):
        raise ArgumentError("expected a list of models, found one", remedy="write [a, b]")
    return [open_checkpoint(model, position) for position, model in enumerate(models)]


def open_checkpoint(model: Model, position: int = 0) -> Checkpoint:
    """The checkpoint that `model` names, its headers read and none of its data.

    Args:
        model: A folder (wins if it exists), a Hub id with an optional `@revision`, a module, a
            state dict, or a checkpoint already opened.
        position: Its place among the inputs, to name objects that have no name.

    Raises:
        ArgumentError: Nothing that could be a model.
        NotFoundError: Neither a folder nor a Hub id.
        HubError: The Hub could not be asked.
        CheckpointError: It cannot be used.
    """
    if isinstance(model, str | Path):
        return _open_reference(str(model))
    if isinstance(model, Mapping):
        return MemoryCheckpoint(model, f"model {position + 1} (in memory)")
    if isinstance(model, Checkpoint):
        return model
    if not hasattr(model, "state_dict"):
        raise ArgumentError(
            f"model {position + 1} is a {type(model).__name__}",
            remedy="give a folder, a Hub id, a module or a state dict",
        )
    return MemoryCheckpoint.of_module(model, f"model {position + 1} (in memory)")


def _open_reference(text: str) -> Checkpoint:
    folder = Path(text).expanduser()
    if folder.is_dir():
        return FolderCheckpoint(folder, text)
    if folder.is_file():
        raise NotFoundError(
            "this is a file; expected the folder that holds config.json and the weights",
            where=text,
            remedy=f"give {folder.parent}",
        )
    if found := REPOSITORY.fullmatch(text):
        from mergekit_geo.checkpoints.hub import open_on_hub

        return open_on_hub(text, found["repo"], found["revision"])
    raise NotFoundError(
        f"no folder {folder.absolute()}, and not a Hub id either",
        where=text,
        remedy="a model is a folder, org/name, or org/name@revision",
    )
