"""Tensors of torch in the safetensors format: names of dtypes, bytes, headers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.errors import NonFiniteError, UnsupportedError

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


class TensorReader:
    """Reads tensors in memory.

    Args:
        state: Name to tensor.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = {key: tensor.detach().contiguous() for key, tensor in state.items()}

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        """Put elements `start` to `stop` of the flattened tensor into `out`, as they are stored."""
        data = bytes_of(self.state[name].view(-1)[start:stop].cpu())
        out[: len(data)] = data


def tensor_infos(state: Mapping[str, Tensor], name: str) -> dict[str, TensorInfo]:
    """Dtype and shape of tensors in memory.

    Args:
        state: Name to tensor.
        name: What the user calls the checkpoint.

    Raises:
        UnsupportedError: A tensor's dtype is none that can be merged.
    """
    return {key: _info(name, key, tensor) for key, tensor in state.items()}


def _info(name: str, key: str, tensor: Tensor) -> TensorInfo:
    if tensor.dtype not in DTYPE_NAMES:
        raise UnsupportedError(f"tensor {key!r} is {tensor.dtype}", where=name)
    return TensorInfo(DTYPE_NAMES[tensor.dtype], tuple(tensor.shape))
