"""Conversions between the safetensors format and torch: names of dtypes, bytes of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.errors import NonFiniteError

TORCH_DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "U16": torch.uint16,
    "I16": torch.int16, "U32": torch.uint32, "I32": torch.int32, "U64": torch.uint64,
    "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32,
    "F64": torch.float64,
}  # fmt: skip
"""Each dtype of the safetensors format as torch has it."""

DTYPE_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


def bytes_of(tensor: Tensor) -> Bytes:
    """The bytes of a contiguous CPU tensor, shared with it.

    >>> bytes_of(torch.tensor([1, 2], dtype=torch.int16)).tolist()
    [1, 0, 2, 0]
    """
    data: Bytes = tensor.reshape(-1).view(torch.uint8).numpy()
    return data


def rounded(name: str, values: Tensor, dtype: str) -> Tensor:
    """A tensor on the CPU in a dtype of the safetensors format.

    Args:
        name: Of the tensor.
        values: As they were trained or estimated.
        dtype: Their own, or a narrower one.

    Raises:
        NonFiniteError: Elements that are finite do not fit it.

    Example:
        >>> rounded("w", torch.tensor([1.5]), "F16").dtype
        torch.float16
    """
    wide = values.detach().cpu()
    found = wide.to(TORCH_DTYPES[dtype])
    if found.dtype != wide.dtype and (gone := int((found.isinf() & wide.isfinite()).sum())):
        most = torch.finfo(found.dtype).max
        raise NonFiniteError(
            f"{gone} elements are finite and do not fit {dtype} ({most:.3g})",
            where=f"tensor {name}",
            remedy="choose a wider --dtype",
        )
    return found
