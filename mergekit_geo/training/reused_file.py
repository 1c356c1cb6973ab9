"""The file in a state of transformers' Trainer that holds what LookSAM uses again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from mergekit_geo.outputs.writer import save_tensors

FILE = "sam.safetensors"


def write_reused(tensors: Sequence[Tensor], folder: Path) -> None:
    """Write the tensors under their numbers."""
    numbered = {str(number): tensor.contiguous() for number, tensor in enumerate(tensors)}
    save_tensors(numbered, folder / FILE, {"format": "pt"})


def read_reused(folder: Path) -> list[Tensor]:
    """The tensors in their order; none where there is no file."""
    path = folder / FILE
    found = load_file(path) if path.exists() else {}
    return [found[str(number)] for number in range(len(found))]
