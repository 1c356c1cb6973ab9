"""The files that hold a folder's tensors: one safetensors file, or shards named by an index."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from mergekit_geo.checkpoints.header import Entries, read_header
from mergekit_geo.errors import FormatError
from mergekit_geo.files.sound_json import brief, parse_json, read_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
STEM, COMPONENT = "model", "diffusion_pytorch_model"
"""Stems of weight files: of transformers, and of diffusers."""

SINGLES = (SINGLE, f"{COMPONENT}.safetensors")
INDEXES = (INDEX, f"{COMPONENT}.safetensors.index.json")
CLASS = "_class_name"
"""Key of a configuration that marks a component of diffusers."""


def read_tensors(folder: Path) -> Entries:
    """Every tensor of the checkpoint in `folder`: what it is, and where its bytes are.

    Raises:
        FormatError: A file is unsound, or the index contradicts the shards.
    """
    names = {path.name for path in folder.iterdir()}
    files = weight_files(names, folder, str(folder))
    index = index_of(names)
    return read_header(folder / files[0]) if index is None else _indexed(folder, index)


def stem_of(config: Mapping[str, object]) -> str:
    """Stem of the weight files of a model with this configuration.

    >>> stem_of({"_class_name": "AutoencoderKL"}), stem_of({})
    ('diffusion_pytorch_model', 'model')
    """
    return COMPONENT if CLASS in config else STEM


def index_of(names: Collection[str]) -> str | None:
    """The index that says where tensors are; None where one file holds them all."""
    for stem in (STEM, COMPONENT):
        if f"{stem}.safetensors" in names:
            return None
        if f"{stem}.safetensors.index.json" in names:
            return f"{stem}.safetensors.index.json"
    return None


def weight_files(names: Collection[str], folder: Path, where: str) -> list[str]:
    """Which of a checkpoint's files hold its tensors; the same choice as transformers'.

    Args:
        names: All its files, as paths relative to its folder.
        folder: Holds the index, if there is one.
        where: What the user calls it.

    Raises:
        FormatError: It cannot be told, or a shard is missing.
    """
    loose = sorted(n for n in names if n.endswith(".safetensors") and "/" not in n)
    index = index_of(names)
    if index is None and (single := [s for s in SINGLES if s in names]):
        return single[:1]
    if index is None and len(loose) == 1:
        return loose
    if index is None:
        raise FormatError(
            f"{len(loose)} safetensors files and no {INDEX} to say which belong to the model",
            where=where,
            remedy="save the model again with save_pretrained, which writes the index",
        )
    shards = sorted(set(read_index(folder / index).values()))
    if absent := [shard for shard in shards if shard not in names]:
        raise FormatError(
            f"the index names the shard {absent[0]}, which is missing",
            where=where,
            remedy="download the checkpoint again",
        )
    return shards


def read_index(path: Path) -> dict[str, str]:
    """The map from tensor to shard that an index file states.

    Raises:
        FormatError: It is no index, names a tensor twice, or points outside the folder.
    """
    weight_map = read_json(path, partial(parse_json, object_pairs_hook=_no_twins)).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(
            f"not a sound index: weight_map is {brief(weight_map)}; expected tensors and shards",
            where=str(path),
        )
    if odd := [shard for shard in weight_map.values() if not isinstance(shard, str)]:
        raise FormatError(f"not a sound index: a shard is called {brief(odd[0])}", where=str(path))
    for shard in set(weight_map.values()):
        if (
            PurePosixPath(shard).name != shard
            or set(shard) & {"\\", "\0"}
            or shard in ("", ".", "..")
        ):
            raise FormatError(
                f"the index names {brief(shard)}, a path outside the checkpoint's folder",
                where=str(path),
                remedy="do not use this checkpoint: its index may be hostile",
            )
    return dict(weight_map)


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is named twice")
        found[key] = value
    return found


def absent_tensors(folder: Path, found: Collection[str]) -> dict[str, str]:
    """Tensors that an index lists and no shard holds, with the shard that it names.

    Args:
        folder: Of the checkpoint.
        found: Names of what its shards hold.
    """
    index = index_of({path.name for path in folder.iterdir()})
    placed = {} if index is None else read_index(folder / index)
    return {name: shard for name, shard in placed.items() if name not in found}


def _indexed(folder: Path, index: str) -> Entries:
    """All that the shards hold: as in transformers, the index only names them."""
    entries: Entries = {}
    for shard in sorted(set(read_index(folder / index).values())):
        found = read_header(folder / shard)
        if twins := sorted(found.keys() & entries.keys()):
            raise FormatError(f"tensor {twins[0]!r} is in two shards", where=str(folder))
        entries |= found
    return entries
