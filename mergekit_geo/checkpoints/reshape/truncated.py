"""Views of models whose embeddings are cut to the rows that all of them have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.reshape.row_rules import few
from mergekit_geo.checkpoints.reshape.rows import RowMap
from mergekit_geo.checkpoints.reshape.tables import require_tables, tables_of
from mergekit_geo.checkpoints.reshape.tokenizer_file import read_tokenizer
from mergekit_geo.checkpoints.reshape.views import views


def truncated(checkpoints: Sequence[Checkpoint]) -> tuple[list[Checkpoint], list[str], list[str]]:
    """Views of the common rows, with notes and warnings; the models where all have as many.

    Raises:
        UnsupportedError: A model in which no embedding is found.
    """
    tables = tables_of(checkpoints)
    require_tables(checkpoints, tables)
    counts = [next(iter(own.values())).rows for own in tables]
    sizes = {one.name: rows for one, rows in zip(checkpoints, counts, strict=True)}
    least = min(sizes.values())
    if max(sizes.values()) == least:
        return list(checkpoints), ["the models have as many rows of embeddings"], []
    warnings = _lost_tokens(checkpoints[0], least)

    def move(index: int) -> int | None:
        return index if index < least else None

    maps = [RowMap(np.arange(least), (), least)] * len(checkpoints)
    found = views(checkpoints, maps, tables, [move] * len(checkpoints), None, warnings)
    said = ", ".join(f"{size:,} of {name}" for name, size in sizes.items())
    return found, [f"embeddings and heads are cut to their first {least:,} rows ({said})"], warnings


def _lost_tokens(donor: Checkpoint, rows: int) -> list[str]:
    """A warning on tokens that the output's tokenizer has, and that have no row any more."""
    file = read_tokenizer(donor.folder)
    lost = [token for token, row in (file.tokens if file else {}).items() if row >= rows]
    if not lost:
        return []
    return [
        f"{len(lost)} tokens of the output's tokenizer are beyond its {rows:,} rows ({few(lost)}): "
        "a text with one of them cannot be run"
    ]
