"""Which tensors of a model have one row a token: embeddings, heads, and biases of heads."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.configuration import vocabulary_size
from mergekit_geo.checkpoints.naming import Schema, schema_of
from mergekit_geo.checkpoints.reshape.rows import Rows, Table
from mergekit_geo.errors import UnsupportedError

FURTHER = "embed_tokens_per_layer.weight"
"""A second embedding that is looked up by the same ids; it may have fewer rows than the first."""

NAMES = (
    "embed_tokens.weight", "lm_head.weight", "wte.weight", "word_embeddings.weight",
    "embed_in.weight", "embed_out.weight", FURTHER,
)  # fmt: skip
"""Ends of the names that are never anything else."""

SIZES = ("vocab_size", "vocab_size_per_layer_input")


def tables_of(checkpoints: Sequence[Checkpoint]) -> list[dict[str, Table]]:
    """The tables of each model, by a name that all know them by; none where there is no size."""
    plain = [_by_name(checkpoint) for checkpoint in checkpoints]
    if all(found is not None for found in plain) and len({frozenset(f or ()) for f in plain}) == 1:
        return [found or {} for found in plain]
    return [_by_schema(checkpoint) for checkpoint in checkpoints]


def rows_of(checkpoint: Checkpoint) -> int | None:
    """Rows of the embedding; None where the configuration does not say."""
    lengths = {length for info in checkpoint.tensors.values() for length in info.shape[:1]}
    return vocabulary_size(checkpoint.config, lengths)


def _by_name(checkpoint: Checkpoint) -> dict[str, Table] | None:
    """Tables by their well-known names; None where shapes and names leave a doubt."""
    size = rows_of(checkpoint)
    named = {n: _table(n, i.shape, size) for n, i in checkpoint.tensors.items() if size in i.shape}
    tables = {name for name in checkpoint.tensors if name.endswith(NAMES)}
    sure = named.keys() == tables and None not in named.values()
    return {name: table for name, table in named.items() if table} if sure else None


def refuse_moved(checkpoint: Checkpoint, tables: dict[str, Table], rows: Rows) -> None:
    """Refuse to move rows of a further embedding that has fewer than there are tokens.

    Raises:
        UnsupportedError: With its name.
    """
    known = {table.name for table in tables.values()}
    for name, info in checkpoint.tensors.items():
        fewer = rows[: info.shape[0]] if name.endswith(FURTHER) and name not in known else rows[:0]
        if (fewer != np.arange(len(fewer))).any():
            raise UnsupportedError(
                f"{name} is looked up by ids of tokens, too, with a number of rows of its own: "
                "such rows are not put elsewhere",
                where=checkpoint.name,
                remedy="merge models of one vocabulary, without a tokenizer source",
            )


def _table(name: str, shape: Sequence[int], rows: int | None) -> Table | None:
    """A tensor whose first dimension of more than one element is the vocabulary."""
    leading = next((i for i, length in enumerate(shape) if length > 1), 0)
    if rows is None or not shape or shape[leading] != rows:
        return None
    return Table(name, rows, prod(shape[leading + 1 :]))


def _by_schema(checkpoint: Checkpoint) -> dict[str, Table]:
    """Tables by what changes in the architecture if it has one token more."""
    size = rows_of(checkpoint)
    if size is None:
        return {}
    schema = schema_of(checkpoint.config)
    growing = _growing(schema, schema_of(resized(checkpoint.config, size, size + 1)))
    found: dict[str, Table] = {}
    for stored, info in checkpoint.tensors.items():
        name, table = schema.canonical(stored), _table(stored, info.shape, size)
        if name not in growing and (table is None or name in schema.expected):
            continue
        if table is None:
            raise UnsupportedError(
                f"{stored} grows with the vocabulary, and is {list(info.shape)} where that has "
                f"{size} tokens: its rows are not those of tokens alone",
                where=checkpoint.name,
                remedy="merge models of one vocabulary, without a tokenizer source",
            )
        found[name] = table
    return found


def _growing(schema: Schema, larger: Schema) -> set[str]:
    return {
        name
        for name, tensor in schema.expected.items()
        if name in larger.expected and larger.expected[name].shape != tensor.shape
    }


def resized(config: Config, size: int, rows: int) -> Config:
    """Copy a configuration with another number of tokens, wherever it states the old one.

    Example:
        >>> resized({"text_config": {"vocab_size": 8}, "hidden_size": 8}, 8, 9)
        {'text_config': {'vocab_size': 9}, 'hidden_size': 8}
    """

    def new(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return resized(value, size, rows)
        return rows if key in SIZES and value == size else value

    return {key: new(key, value) for key, value in config.items()}


def require_tables(checkpoints: Sequence[Checkpoint], tables: Sequence[dict[str, Table]]) -> None:
    """Refuse a model in which no embedding is found.

    Raises:
        UnsupportedError: With its name.
    """
    for checkpoint, own in zip(checkpoints, tables, strict=True):
        if not own:
            raise UnsupportedError(
                "which of its tensors have one row a token cannot be told: its configuration "
                "states no vocabulary, or no tensor has so many rows",
                where=checkpoint.name,
            )
