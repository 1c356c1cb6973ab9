"""Views of models by their row maps: tensors, configurations, and one frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.reading import Read
from mergekit_geo.checkpoints.reshape.frame import GENERATION, Frame
from mergekit_geo.checkpoints.reshape.rows import MEAN, Models, RowMap, RowReader, Table
from mergekit_geo.checkpoints.reshape.tables import resized, rows_of
from mergekit_geo.checkpoints.reshape.token_ids import Move, moved_ids
from mergekit_geo.checkpoints.reshape.view import view
from mergekit_geo.files.sound_json import read_json

CONFIG = "config.json"

NO_TOKEN = -1
"""What an id says that is no token's, where it has to be a number."""


def views(
    checkpoints: Sequence[Checkpoint],
    maps: Sequence[RowMap],
    tables: Sequence[dict[str, Table]],
    moves: Sequence[Move],
    tokenizer: Path | None,
    warnings: list[str],
) -> list[Checkpoint]:
    """Views of models whose tables have their rows where the maps say.

    Args:
        checkpoints: As they were opened, the donor first.
        maps: By model.
        tables: By model, the tables by the name that all know them by.
        moves: By model, from its ids of tokens to the output's.
        tokenizer: Folder of the output's tokenizer, where it is not the donor's.
        warnings: Is told of tokens that are named in the donor's settings and are no more.
    """
    donor, rows = checkpoints[0], len(maps[0].rows)
    configs = [
        _config(checkpoint, move, rows, warnings if checkpoint is donor else [])
        for checkpoint, move in zip(checkpoints, moves, strict=True)
    ]
    frame = Frame(donor, configs[0], tokenizer, _generation(donor, moves[0], warnings))
    models = Models(checkpoints, tables)
    return [_view(models, i, row_map, frame, configs[i]) for i, row_map in enumerate(maps)]


def _config(checkpoint: Checkpoint, move: Move, rows: int, warnings: list[str]) -> Config:
    """A configuration with the number of rows, and ids of tokens where they are now."""
    size, told = rows_of(checkpoint), list[str]()
    moved = moved_ids(checkpoint.config, move, CONFIG, told)
    warnings += told
    if told and _is_sound(checkpoint.config) and not _is_sound(moved):
        moved = moved_ids(checkpoint.config, move, CONFIG, [], gone=NO_TOKEN)
    return moved if size is None else resized(moved, size, rows)


def _is_sound(config: Config) -> bool:
    """Whether transformers takes a configuration: that of some has no id that is null."""
    from mergekit_geo.checkpoints.loading import load_config  # loads transformers

    try:
        load_config(config)
    except Exception:  # whatever the class of the configuration raises
        return False
    return True


def _generation(donor: Checkpoint, move: Move, warnings: list[str]) -> dict[str, Any]:
    """The keys of the generation settings that say something else now."""
    if donor.folder is None or not (donor.folder / GENERATION).is_file():
        return {}
    settings = read_json(donor.folder / GENERATION)
    moved = moved_ids(settings, move, GENERATION, warnings)
    return {key: value for key, value in moved.items() if settings[key] != value}


def _view(models: Models, place: int, row_map: RowMap, frame: Frame, config: Config) -> Checkpoint:
    checkpoint = models.checkpoints[place]
    own = {table.name: (name, table) for name, table in models.tables[place].items()}
    dtypes = {stored: _handed(models, name, place, row_map) for stored, (name, _) in own.items()}
    tensors = {
        name: _info(info, len(row_map.rows), dtypes[name]) if name in own else info
        for name, info in checkpoint.tensors.items()
    }

    def reader(source: Checkpoint) -> Read:
        return RowReader(source, models, own, row_map, dtypes).read

    return view(checkpoint, tensors, reader, frame, row_map.digest, config)


def _info(info: TensorInfo, rows: int, dtype: str) -> TensorInfo:
    """The table with another number of rows, wherever in its shape these are counted."""
    leading = next((i for i, length in enumerate(info.shape) if length > 1), 0)
    shape = tuple(rows if i == leading else n for i, n in enumerate(info.shape))
    return TensorInfo(dtype, shape, info.written or (info.dtype if dtype != info.dtype else ""))


def _handed(models: Models, name: str, place: int, row_map: RowMap) -> str:
    """What a table is handed out in: wide enough for the rows that come from other models."""
    stored = {
        i: models.checkpoints[i].tensors[tables[name].name].dtype
        for i, tables in enumerate(models.tables)
        if name in tables
    }
    if (row_map.rows >= MEAN).all() or len(set(stored.values())) == 1:
        return stored[place]
    return "F64" if "F64" in stored.values() else "F32"
