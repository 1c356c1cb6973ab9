"""From bytes in a file to a tensor of any dtype, through one small reused buffer a thread.

Reading by position into a kept buffer holds memory constant; mapping whole files would count
every page touched as resident.
"""

from __future__ import annotations

import os
import threading
from io import FileIO

import torch
from torch import Tensor

from mergekit_geo.checkpoints.header import ITEM_BYTES
from mergekit_geo.errors import FormatError

TORCH_DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "U16": torch.uint16,
    "I16": torch.int16, "U32": torch.uint32, "I32": torch.int32, "U64": torch.uint64,
    "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32,
    "F64": torch.float64,
}  # fmt: skip
"""Each dtype of the safetensors format as torch has it."""

DTYPE_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}

_buffers = threading.local()


def fill(file: FileIO, offset: int, dtype: str, start: int, out: Tensor) -> None:
    """Fill `out` with the elements from `start` of the tensor whose bytes begin at `offset`.

    Args:
        file: Open for reading.
        offset: Byte position of the tensor's first element.
        dtype: The stored dtype, as the format names it.
        start: First element wanted.
        out: 1-D; its length says how many elements, its dtype and device how they are kept.

    Raises:
        FormatError: The file ends before the tensor does.
    """
    position = offset + start * ITEM_BYTES[dtype]
    stored = TORCH_DTYPES[dtype]
    if out.dtype == stored and out.device.type == "cpu" and out.is_contiguous():
        _read(file, position, byte_view(out))
        return
    elements, view = _staging(stored, out.numel())
    _read(file, position, view)
    out.copy_(elements)


def byte_view(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor, shared with it.

    >>> byte_view(torch.tensor([1, 2], dtype=torch.int16)).nbytes
    4
    """
    if not tensor.numel():
        return memoryview(b"")
    return tensor.view(torch.uint8).numpy().data


def _staging(dtype: torch.dtype, count: int) -> tuple[Tensor, memoryview]:
    nbytes = count * dtype.itemsize
    if getattr(_buffers, "size", 0) < nbytes:
        _buffers.bytes = torch.empty(nbytes, dtype=torch.uint8)
        _buffers.view = byte_view(_buffers.bytes)
        _buffers.size = nbytes
    return _buffers.bytes[:nbytes].view(dtype), _buffers.view[:nbytes]


def _read(file: FileIO, position: int, view: memoryview) -> None:
    done = 0
    while done < len(view):
        count = _pread_into(file, view[done:], position + done)
        if count == 0:
            raise FormatError("the file ended before its tensors did", where=str(file.name))
        done += count


if hasattr(os, "preadv"):

    def _pread_into(file: FileIO, view: memoryview, position: int) -> int:
        return os.preadv(file.fileno(), [view], position)

else:  # macOS and Windows

    def _pread_into(file: FileIO, view: memoryview, position: int) -> int:
        with FileIO(file.name) as own:
            own.seek(position)
            return own.readinto(view)
