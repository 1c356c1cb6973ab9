"""What a user calls a model: a folder, `org/name`, `org/name@revision`, or an object in memory.

A folder or repository may hold an adapter instead, whose configuration names its base; BASE+ADAPTER
names both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.adapter.adapter import adapted
from mergekit_geo.checkpoints.adapter.files import (
    ADAPTER_WEIGHTS,
    Adapter,
    is_adapter,
    open_adapter,
)
from mergekit_geo.checkpoints.adapter.names import AdapterBase
from mergekit_geo.checkpoints.adapter.settings import ADAPTER_CONFIG
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.folder import list_files, open_file, open_folder
from mergekit_geo.checkpoints.module_folders import SAFE
from mergekit_geo.checkpoints.unreadable import OTHER_FORMATS, refuse_unreadable
from mergekit_geo.errors import ArgumentError, NotFoundError, UnsupportedError
from mergekit_geo.files.hub_id import HubId, inside, no_subfolder, split_subfolder
from mergekit_geo.files.local_path import local_path

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    Model = str | Path | Module | Mapping[str, Tensor] | Checkpoint
    """Everything that names a model."""

PAIR = 2
Bases = dict[str, AdapterBase]
"""Bases that are open, by what they are called: adapters of one share it."""


def several(models: Model | Sequence[Model], to: str) -> list[Model]:
    """Models as a list, where one may be given by itself.

    Args:
        models: One or several.
        to: What is to be done with them, such as `measure`, for the error.

    Raises:
        ArgumentError: There are none.
    """
    found: list[Any] = list(models) if isinstance(models, list | tuple) else [models]
    if not found:
        raise ArgumentError(f"no models to {to}", remedy="name at least one")
    return found


def open_checkpoints(models: Sequence[Model]) -> list[Checkpoint]:
    """The checkpoint of each model, as `open_checkpoint`; state dicts run as the others do.

    Raises:
        ArgumentError: One model instead of a list of them.
    """
    if isinstance(models, str | Path | Mapping):
        raise ArgumentError("expected a list of models, found one", remedy="write [a, b]")
    bases: Bases = {}
    found = [open_checkpoint(model, position, bases) for position, model in enumerate(models)]
    for position, checkpoint in enumerate(found):
        found[position] = _running(checkpoint, found)
    return found


def _running(checkpoint: Checkpoint, others: Sequence[Checkpoint]) -> Checkpoint:
    """A state dict, or a single file, with the configuration of another model of its tensors."""
    if checkpoint.folder is not None or _runs(checkpoint):
        return checkpoint
    like = next((other for other in others if _is_like(checkpoint, other)), None)
    return checkpoint if like is None else replace(checkpoint, like=like, config=like.config)


def _runs(checkpoint: Checkpoint) -> bool:
    """Whether it has the configuration of a module to run."""
    return checkpoint.module is not None or bool(checkpoint.config.get("architectures"))


def _is_like(bare: Checkpoint, other: Checkpoint) -> bool:
    """Whether another model has the same tensors, and a configuration."""
    return _runs(other) and other.tensors.keys() == bare.tensors.keys()


def open_checkpoint(model: Model, position: int = 0, bases: Bases | None = None) -> Checkpoint:
    """The checkpoint that `model` names, its headers read and none of its data.

    Args:
        model: A folder (wins if it exists), a safetensors file, a Hub id with an optional
            `@revision`, a folder in one of these after a colon, two of these as BASE+ADAPTER, a
            module, a state dict, or a checkpoint already opened.
        position: Its place among the inputs, to name objects that have no name.
        bases: Of adapters opened before.

    Raises:
        ArgumentError: Nothing that could be a model.
        NotFoundError: Neither a folder nor a Hub id.
        HubError: The Hub could not be asked.
        CheckpointError: It cannot be used.
    """
    if isinstance(model, str | Path):
        return _open_reference(str(model), {} if bases is None else bases)
    if isinstance(model, Checkpoint):
        return model
    from mergekit_geo.checkpoints.memory import of_module, of_state  # loads torch

    if isinstance(model, Mapping):
        return of_state(model, name_of(model, position))
    if not hasattr(model, "state_dict"):
        raise ArgumentError(
            f"model {position + 1} is a {type(model).__name__}",
            remedy="give a folder, a Hub id, a module or a state dict",
        )
    return of_module(model, name_of(model, position))


def name_of(model: Model, position: int = 0) -> str:
    """What a model is called: what names it, or its place where it is in memory.

    Example:
        >>> name_of("org/name"), name_of({}, 1)
        ('org/name', 'model 2 (in memory)')
    """
    if isinstance(model, Checkpoint):
        return model.name
    return str(model) if isinstance(model, str | Path) else f"model {position + 1} (in memory)"


def split_reference(text: str) -> tuple[str, str] | None:
    """Base and adapter of BASE+ADAPTER; None where there is no such pair.

    A plus sign in a folder's name does no harm where only one way to split makes sense.

    Raises:
        ArgumentError: More than one adapter.

    Example:
        >>> split_reference("org/base@v1+org/adapter"), split_reference("org/name")
        (('org/base@v1', 'org/adapter'), None)
    """
    pieces = text.split("+")
    if len(pieces) > PAIR and all(map(_is_plausible, pieces)):
        raise ArgumentError(
            f"{text}: expected BASE+ADAPTER, found {len(pieces)} parts",
            remedy=f"merge one first: geo-merge soup {'+'.join(pieces[:PAIR])} -o DIR",
        )
    pairs = [("+".join(pieces[:i]), "+".join(pieces[i:])) for i in range(1, len(pieces))]
    hopeful = [pair for pair in pairs if any(map(_is_plausible, pair))]
    return next(
        (pair for pair in hopeful if all(map(_is_plausible, pair))), next(iter(hopeful), None)
    )


def _is_plausible(text: str) -> bool:
    here = local_path(text).exists() or split_subfolder(text) is not None
    return here or HubId.parse(text) is not None


def _open_reference(text: str, bases: Bases) -> Checkpoint:
    whole = local_path(text).exists()
    if not whole and (pair := split_reference(text)):
        adapter = _open_part(pair[1])
        if isinstance(adapter, Checkpoint):
            raise UnsupportedError(
                "expected an adapter after the +, found a whole model",
                where=pair[1],
                remedy="name whole models one by one, with spaces between them",
            )
        return adapted(text, _base(pair[0], bases), adapter)
    found = _open_part(text)
    if isinstance(found, Checkpoint):
        return found
    return adapted(text, _stated_base(found, bases), found)


def _stated_base(adapter: Adapter, bases: Bases) -> AdapterBase:
    """The base that an adapter's configuration names."""
    stated = adapter.settings
    remedy = f"name the base yourself: BASE+{adapter.name}"
    if not stated.base:
        raise NotFoundError(
            "the adapter does not say what its base is", where=adapter.name, remedy=remedy
        )
    try:
        return _base(_stated_folder(adapter) or stated.reference, bases)
    except NotFoundError as error:
        raise NotFoundError(
            f"its base, {stated.reference}, cannot be found: {error.message}",
            where=adapter.name,
            remedy=remedy,
        ) from error


def _stated_folder(adapter: Adapter) -> str | None:
    """The folder that an adapter names as its base, seen from here or from its own folder."""
    stated = adapter.settings.base
    if local_path(stated).is_dir():
        return stated
    beside = adapter.folder / stated
    return str(beside) if adapter.revision is None and local_path(beside).is_dir() else None


def _base(text: str, bases: Bases) -> AdapterBase:
    if text not in bases:
        found = _open_part(text)
        if not isinstance(found, Checkpoint):
            raise UnsupportedError(
                "expected a whole model as the base, found an adapter",
                where=text,
                remedy=f"merge it first: geo-merge soup {text} -o DIR; then name DIR as the base",
            )
        if found.inside:
            raise UnsupportedError(
                f"an adapter on one of several modules ({found.inside}) is not built",
                where=text,
                remedy=f"name the module as the base: {inside(text, found.inside)}+ADAPTER",
            )
        bases[text] = AdapterBase(found)
    return bases[text]


def _open_part(text: str) -> Checkpoint | Adapter:
    """A whole model, or an adapter without its base."""
    folder = local_path(text)
    if folder.is_dir():
        return _in_folder(folder, text, None)
    if folder.is_file():
        return _in_file(folder, text)
    if within := split_subfolder(text):
        return _in_subfolder(*within, text)
    found = HubId.parse(text)
    if text.endswith(SAFE) and not (found and found.subfolder):
        raise NotFoundError(f"no file {folder.absolute()}", where=text)
    if found:
        return _on_hub(text, found)
    raise NotFoundError(
        f"no folder {folder.absolute()}, and not a Hub id either",
        where=text,
        remedy="a model is a folder or a safetensors file, org/name, org/name@revision, a folder "
        "in one of these (org/name:unet), or BASE+ADAPTER",
    )


def _in_subfolder(folder: Path, below: str, name: str) -> Checkpoint | Adapter:
    if (folder / below).is_dir():
        return _in_folder(folder / below, name, None)
    if (folder / below).is_file():
        return _in_file(folder / below, name)
    there = [path.name for path in folder.iterdir() if path.is_dir()]
    raise no_subfolder(str(folder), below, there)


def _in_file(file: Path, name: str) -> Checkpoint | Adapter:
    if file.suffix in OTHER_FORMATS:
        refuse_unreadable(name, {file.name})
    if file.suffix != SAFE:
        raise NotFoundError(
            f"this is a file, and no {SAFE} one",
            where=name,
            remedy=f"give its folder, {file.parent}, or a {SAFE} file",
        )
    if file.name == ADAPTER_WEIGHTS and (file.parent / ADAPTER_CONFIG).is_file():
        return open_adapter(file.parent, name)
    return open_file(file, name)


def _in_folder(folder: Path, name: str, revision: str | None) -> Checkpoint | Adapter:
    if is_adapter({path.name for path in list_files(folder, name)}, name):
        return open_adapter(folder, name, revision)
    return open_folder(folder, name, revision)


def _on_hub(name: str, place: HubId) -> Checkpoint | Adapter:
    from mergekit_geo.checkpoints import hub, hub_file  # load the hub client

    if place.subfolder.endswith(SAFE):
        return hub_file.open_file_on_hub(name, place)
    if cached := hub.cached_folder(name, place):
        return _in_folder(cached[0], name, cached[1].revision)
    return hub.open_on_hub(name, place)
