"""Tensors in shapes that are not their architecture's: shards that were never put together.

FSDP and ZeRO-3 leave flat pieces and empty tensors in the files of a process. Two such files have
the same names and the same wrong shapes, so that comparing them finds nothing. transformers is
asked what it expects where a header looks like that, and only there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.naming import Schema, schema_of

FLAT = "_flat_param"
"""Part of the names of what FSDP makes of a module's parameters."""

EMBEDDINGS = ("embed_tokens.weight", "lm_head.weight", "wte.weight", "word_embeddings.weight")
MATRIX = 2


def misshapen(checkpoint: Checkpoint) -> list[str]:
    """What is wrong with the shapes of a checkpoint, in one line; nothing if they are sound."""
    tensors = checkpoint.tensors
    if flat := [name for name in tensors if FLAT in name]:
        return [_told(checkpoint, len(flat), f"{flat[0]} holds several flattened into one")]
    odd = list(_odd(tensors, checkpoint.config))
    schema = schema_of(checkpoint.config) if odd else Schema()
    found = []
    for stored in odd:
        info, expected = tensors[stored], schema.expected.get(schema.canonical(stored))
        wrong = not info.count if expected is None else tuple(expected.shape) != info.shape
        if wrong and (schema.expected or checkpoint.folder is not None):
            wanted = f", expected {list(expected.shape)}" if expected is not None else ""
            found.append(f"{stored} is {list(info.shape)}{wanted}")
    if found and (rows := _resized(checkpoint)):
        return [
            f"{checkpoint.name}: {found[0]}: the vocabulary was resized and config.json was not; "
            f"set its vocab_size to {rows}"
        ]
    return [_told(checkpoint, len(found), found[0])] if found else []


def _resized(checkpoint: Checkpoint) -> int:
    """Rows of all embeddings, where they alone are not as the configuration says; otherwise 0."""
    sizes, tensors = _embedding(checkpoint.config), checkpoint.tensors
    odd = set(_odd(tensors, checkpoint.config))
    shapes = {info.shape for name, info in tensors.items() if name.endswith(EMBEDDINGS)}
    alone = all(name.endswith(EMBEDDINGS) for name in odd)
    if not alone or sizes is None or len(shapes) != 1 or len(shape := shapes.pop()) != MATRIX:
        return 0
    return int(shape[0]) if shape[1] == sizes[1] else 0


def _told(checkpoint: Checkpoint, count: int, example: str) -> str:
    name = (checkpoint.config.get("architectures") or ["its architecture"])[0]
    tensors = "1 tensor has" if count == 1 else f"{count} tensors have"
    return (
        f"{checkpoint.name}: {tensors} not the shape of {name} ({example}): shards of FSDP or ZeRO "
        "that were not put together look like this, or a config.json of another model"
    )


def _odd(tensors: Mapping[str, TensorInfo], config: Config) -> Iterator[str]:
    """Names of tensors whose shapes look wrong."""
    shapes = [info.shape for info in tensors.values() if len(info.shape) >= MATRIX]
    widest = max((size for shape in shapes for size in shape), default=0)
    sizes = _embedding(config)
    for name, info in tensors.items():
        empty, flat = not info.count, len(info.shape) == 1 and info.count > widest
        other = name.endswith(EMBEDDINGS) and sizes is not None and info.shape != sizes
        if empty or other or (flat and name.endswith("weight")):
            yield name


def _embedding(config: Config) -> tuple[Any, Any] | None:
    """Rows and columns of the embedding; None where the configuration does not say."""
    inner = config.get("text_config")
    for stated in (config, inner if isinstance(inner, dict) else {}):
        if "vocab_size" in stated and "hidden_size" in stated:
            return stated["vocab_size"], stated["hidden_size"]
    return None
