"""The files that hold a folder's tensors: one safetensors file, or shards named by an index."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from mergekit_geo.checkpoints.header import Entries, read_header
from mergekit_geo.errors import FormatError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def read_tensors(folder: Path) -> Entries:
    """Every tensor of the checkpoint in `folder`: what it is, and where its bytes are.

    Raises:
        FormatError: A file is unsound, or the index contradicts the shards.
    """
    if (folder / INDEX).is_file():
        return _indexed(folder, read_index(folder / INDEX))
    if (folder / SINGLE).is_file():
        return read_header(folder / SINGLE)
    loose = sorted(folder.glob("*.safetensors"))
    if len(loose) == 1:
        return read_header(loose[0])
    raise FormatError(
        f"{len(loose)} safetensors files and no {INDEX} to say which belong to the model",
        where=str(folder),
        remedy="save the model again with save_pretrained, which writes the index",
    )


def read_index(path: Path) -> dict[str, str]:
    """The map from tensor to shard that an index file states.

    Raises:
        FormatError: It is no index, names a tensor twice, or points outside the folder.
    """
    try:
        weight_map = json.loads(path.read_text("utf-8"), object_pairs_hook=_no_twins)["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"not a sound index: {error}", where=str(path)) from error
    for shard in set(weight_map.values()):
        if PurePosixPath(shard).name != shard or "\\" in shard or shard in ("", ".", ".."):
            raise FormatError(
                f"the index names {shard!r}, a path outside the checkpoint's folder",
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


def _indexed(folder: Path, weight_map: dict[str, str]) -> Entries:
    entries: Entries = {}
    for shard in sorted(set(weight_map.values())):
        found = _shard(folder, shard)
        if twins := sorted(found.keys() & entries.keys()):
            raise FormatError(f"tensor {twins[0]!r} is in two shards", where=str(folder))
        if absent := sorted(n for n, s in weight_map.items() if s == shard and n not in found):
            raise FormatError(
                f"the index places {absent[0]!r} in {shard}, which does not hold it "
                f"({len(absent)} such tensors)",
                where=str(folder),
            )
        entries |= found
    return entries


def _shard(folder: Path, shard: str) -> Entries:
    if not (folder / shard).is_file():
        raise FormatError(
            f"the index names the shard {shard}, which is missing",
            where=str(folder),
            remedy="download the checkpoint again",
        )
    return read_header(folder / shard)
