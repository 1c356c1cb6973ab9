"""A merge that stays in memory."""

from __future__ import annotations

import torch
from torch import Tensor

from mergekit_geo.checkpoints.dtypes import TORCH_DTYPES, bytes_of
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.merging.blend import Blend


class MemorySink:
    """Keeps the merged tensors in `state`.

    Args:
        blend: What will be written.
    """

    def __init__(self, blend: Blend) -> None:
        self.state: dict[str, Tensor] = {
            name: torch.empty(info.shape, dtype=TORCH_DTYPES[info.dtype])
            for name, info in blend.outputs().items()
        }

    def write(self, name: str, position: int, data: Bytes) -> None:
        """Store `data` from byte `position` of the tensor on."""
        bytes_of(self.state[name])[position : position + len(data)] = data
