"""Components of a diffusers pipeline: several models in one folder, which a file names.

A pipeline is one checkpoint. Names of its tensors begin with that of their component, as in
`unet.conv_in.weight`, and its configuration holds theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from mergekit_geo.checkpoints.module_folders import (
    ModuleFolder,
    folder_inside,
    is_weights,
    module_folder,
    read_modules,
)
from mergekit_geo.errors import FormatError
from mergekit_geo.files.sound_json import read_json

PIPELINE = "model_index.json"
"""A file of pipelines, which names the components."""

COMPONENTS = "_components"
"""Key of a pipeline's configuration, with that of each component that has weights."""

PAIR = 2


def read_components(folder: Path, listed: Collection[str] = ()) -> tuple[ModuleFolder, ...]:
    """The components of a pipeline; none where it is no pipeline.

    Args:
        folder: Of the pipeline.
        listed: All that its repository holds, where only a part of that is here.

    Raises:
        FormatError: A component has no folder, or one outside the pipeline's.
    """
    path = folder / PIPELINE
    stated = read_json(path) if path.is_file() else {}
    return tuple(
        module_folder(folder, index, kind, folder_inside(name, path), listed)
        for index, (name, kind) in enumerate(_named(stated))
    )


def read_folders(folder: Path, listed: Collection[str] = ()) -> tuple[ModuleFolder, ...]:
    """The modules of a model, or the components of a pipeline; none of any other model."""
    return read_modules(folder, listed) or read_components(folder, listed)


def weighted_components(
    folder: Path, listed: Collection[str] = (), *, where: str = ""
) -> tuple[ModuleFolder, ...]:
    """The components of a pipeline that have weights, in whatever format.

    Args:
        folder: Of the pipeline.
        listed: All that its repository holds, where only a part of that is here.
        where: What the user calls it.

    Raises:
        FormatError: The folder of a component is missing, or none has weights.
    """
    every = read_components(folder, listed)
    if absent := next((one for one in every if not one.files), None):
        raise FormatError(
            f"{PIPELINE} names {absent.path} ({absent.kind}), which is missing",
            where=where or str(folder),
            remedy="download the pipeline again",
        )
    found = tuple(one for one in every if any(is_weights(path.name) for path in one.files))
    if not found and (folder / PIPELINE).is_file():
        raise FormatError(f"no component of {PIPELINE} has weights", where=where or str(folder))
    return found


def configs_of(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The configurations of a pipeline's components, by name; empty for any other model's.

    >>> configs_of({"_components": {"vae": {"sample_size": 8}}}), configs_of({"vocab_size": 8})
    ({'vae': {'sample_size': 8}}, {})
    """
    found: dict[str, dict[str, Any]] = config.get(COMPONENTS, {})
    return found


def split_name(tensor: str) -> tuple[str, str]:
    """The component of a pipeline's tensor, and its name there.

    >>> split_name("unet.conv_in.weight")
    ('unet', 'conv_in.weight')
    """
    component, _, own = tensor.partition(".")
    return component, own


def by_component(tensors: Iterable[str]) -> dict[str, list[str]]:
    """Names of a pipeline's tensors by component, in their order.

    >>> by_component(["vae.a", "unet.b.c", "vae.d"])
    {'vae': ['vae.a', 'vae.d'], 'unet': ['unet.b.c']}
    """
    found: dict[str, list[str]] = {}
    for name in tensors:
        found.setdefault(split_name(name)[0], []).append(name)
    return found


def _named(stated: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Folder and class of each component that is there, among a pipeline's settings."""
    pairs = [(name, value) for name, value in stated.items() if not name.startswith("_")]
    return [
        (name, value[1])
        for name, value in pairs
        if isinstance(value, list)
        and len(value) == PAIR
        and all(isinstance(word, str) for word in value)
    ]
