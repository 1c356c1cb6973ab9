"""Where every tensor of an output will lie: shards, headers, offsets, before a byte is written."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mergekit_geo.checkpoints.components import by_component, configs_of, split_name
from mergekit_geo.checkpoints.header import ITEM_BYTES, TensorInfo
from mergekit_geo.checkpoints.index import STEM, stem_of
from mergekit_geo.checkpoints.module_folders import at

ALIGNMENT = 8


@dataclass(frozen=True)
class Shard:
    """One file of an output.

    Attributes:
        file: Its name.
        header: Its first bytes, length included.
        offsets: Byte position of each tensor in the file.
        nbytes: Size of the whole file.
    """

    file: str
    header: bytes
    offsets: dict[str, int]
    nbytes: int


@dataclass(frozen=True)
class Volume:
    """Files of one model, and the index over them.

    Attributes:
        shards: The files.
        index: Name and text; None for a single file.
    """

    shards: list[Shard]
    index: tuple[str, str] | None


def plan_output(
    tensors: Mapping[str, TensorInfo],
    most: int,
    config: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> list[Volume]:
    """The files of a model, or those of each component of a pipeline in its folder.

    Args:
        tensors: Of the output, in their order.
        most: Bytes of data in a file.
        config: Of the donor.
        metadata: For each header.
    """
    components = configs_of(config)
    if not components:
        return [_volume(tensors, most, config, metadata)]
    groups = {
        place: {split_name(name)[1]: tensors[name] for name in names}
        for place, names in by_component(tensors).items()
    }
    return [
        _volume(group, most, components[place], metadata, place) for place, group in groups.items()
    ]


def _volume(
    tensors: Mapping[str, TensorInfo],
    most: int,
    config: Mapping[str, Any],
    metadata: Mapping[str, str] | None,
    place: str = "",
) -> Volume:
    stem = stem_of(config)
    shards, begin = plan_shards(tensors, most, stem, metadata), f"{place}." if place else ""
    index = index_file(shards, tensors, stem)
    moved = [
        replace(
            shard,
            file=at(place, shard.file),
            offsets={f"{begin}{name}": offset for name, offset in shard.offsets.items()},
        )
        for shard in shards
    ]
    return Volume(moved, (at(place, index[0]), index[1]) if index else None)


def plan_shards(
    tensors: Mapping[str, TensorInfo],
    most: int,
    stem: str = STEM,
    metadata: Mapping[str, str] | None = None,
) -> list[Shard]:
    """Split tensors, in their order, into files of at most `most` bytes of data.

    A tensor larger than that has a file of its own; `stem` begins the files' names. Each header
    has the metadata, with `format` `pt` where it states none.

    Example:
        >>> row = TensorInfo("F32", (4,))
        >>> [shard.file for shard in plan_shards({"a": row, "b": row}, 16)]
        ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
    """
    groups: list[dict[str, TensorInfo]] = [{}]
    filled = 0
    for name, info in tensors.items():
        if groups[-1] and filled + info.nbytes > most:
            groups.append({})
            filled = 0
        groups[-1][name] = info
        filled += info.nbytes
    total = len(groups)
    names = [f"{stem}-{i + 1:05}-of-{total:05}.safetensors" if total > 1 else f"{stem}.safetensors"
             for i in range(total)]  # fmt: skip
    stated = {"format": "pt", **(metadata or {})}
    return [_shard(name, group, stated) for name, group in zip(names, groups, strict=True)]


def index_file(
    shards: list[Shard], tensors: Mapping[str, TensorInfo], stem: str = STEM
) -> tuple[str, str] | None:
    """Name and text of the index, None for a single file."""
    if len(shards) == 1:
        return None
    weight_map = {name: shard.file for shard in shards for name in shard.offsets}
    total = sum(info.nbytes for info in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    return f"{stem}.safetensors.index.json", json.dumps(index, indent=2) + "\n"


def _shard(file: str, tensors: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> Shard:
    widest_first = sorted(tensors, key=lambda name: -ITEM_BYTES[tensors[name].dtype])
    positions: dict[str, int] = {}
    end = 0
    for name in widest_first:
        positions[name] = end
        end += tensors[name].nbytes
    header = _header(tensors, positions, metadata)
    offsets = {name: len(header) + position for name, position in positions.items()}
    return Shard(file, header, offsets, len(header) + end)


def _header(
    tensors: Mapping[str, TensorInfo], positions: Mapping[str, int], metadata: Mapping[str, str]
) -> bytes:
    entries: dict[str, object] = {"__metadata__": metadata}
    for name, begin in positions.items():
        info = tensors[name]
        entries[name] = {
            "dtype": info.dtype,
            "shape": list(info.shape),
            "data_offsets": [begin, begin + info.nbytes],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    padded = text + b" " * (-len(text) % ALIGNMENT)
    return struct.pack("<Q", len(padded)) + padded
