"""The header of one safetensors file: which tensor lies where.

A file is 8 bytes of little-endian length, that many bytes of JSON, then the tensors' bytes.
The official library checks the header once (offsets, overlaps, sizes, truncation); after that
the offsets can be trusted and data is read by position.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mergekit_geo.errors import FormatError
from mergekit_geo.files.regular import require_regular

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
"""Bytes per element of every dtype that a checkpoint here may hold, by its name in the format."""

PACKED = "8-bit and other packed weights cannot be averaged: use the unquantised model"
COMPLEX = "save real and imaginary parts (torch.view_as_real) in the place of complex numbers"

FLOATS = frozenset({"F16", "BF16", "F32", "F64"})


@dataclass(frozen=True)
class TensorInfo:
    """Dtype and shape of a tensor, from a header.

    Attributes:
        dtype: Name in the safetensors format, such as `BF16`.
        shape: Sizes; `()` is a scalar.
        written: What an output rounds it to, where that is not its dtype: an adapter's sums are
            handed out wider than its base is stored.
    """

    dtype: str
    shape: tuple[int, ...]
    written: str = ""

    @property
    def count(self) -> int:
        """Number of elements.

        >>> TensorInfo("BF16", (3, 4)).count, TensorInfo("F32", ()).count
        (12, 1)
        """
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return self.count * ITEM_BYTES[self.dtype]

    @property
    def is_float(self) -> bool:
        """Whether the tensor can be averaged."""
        return self.dtype in FLOATS


@dataclass(frozen=True)
class Location:
    """Where a tensor's bytes begin: a file, and a position in it."""

    path: Path
    offset: int


Entries = dict[str, tuple[TensorInfo, Location]]


def read_header(path: Path) -> Entries:
    """Every tensor of a safetensors file, after the official library has accepted its header.

    Raises:
        FormatError: The file is truncated, or its header lies about offsets, overlaps or sizes.
    """
    _verify(path)
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return {name: _entry(name, raw, path, 8 + length) for name, raw in header.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """What a file's header states beside its tensors, without hashes of what it holds."""
    with safe_open(path, framework="np") as file:
        stated = file.metadata() or {}
    return {key: value for key, value in stated.items() if "hash" not in key}


def _verify(path: Path) -> None:
    try:
        require_regular(path)
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise FormatError(
            f"not a sound safetensors file: {getattr(error, 'strerror', None) or error}",
            where=str(path),
            remedy="download or save it again; truncated downloads look like this",
        ) from error


def _entry(
    name: str, raw: Mapping[str, Any], path: Path, start: int
) -> tuple[TensorInfo, Location]:
    info = tensor_info(name, raw["dtype"], raw["shape"], str(path))
    return info, Location(path, start + raw["data_offsets"][0])


def tensor_info(name: str, dtype: str, shape: list[int], where: str) -> TensorInfo:
    """A `TensorInfo`, refusing dtypes of quantised checkpoints, and complex ones.

    Raises:
        FormatError: The dtype is none that can be merged.
    """
    if dtype not in ITEM_BYTES:
        raise FormatError(
            f"tensor {name!r} has dtype {dtype}; expected one of {', '.join(ITEM_BYTES)}",
            where=where,
            remedy=COMPLEX if dtype.startswith("C") else PACKED,
        )
    return TensorInfo(dtype, tuple(shape))
