"""The weights of modules that stand after a model, merged by the same rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.checkpoints.module_folders import read_modules, weight_folders
from mergekit_geo.checkpoints.sources import original
from mergekit_geo.checkpoints.unchanged import unchanged
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.kernels import Kernel
from mergekit_geo.merging.stream import stream
from mergekit_geo.merging.tensor_record import TensorRecord

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MergedModule:
    """Weights of a module.

    Attributes:
        file: Where they belong, relative to the output.
        state: By name.
        records: What was done to each.
    """

    file: Path
    state: dict[str, Tensor]
    records: dict[str, TensorRecord]


def merged_modules(
    blend: Blend, *, kernel: Kernel | None = None, allow_nonfinite: bool = False
) -> Iterator[MergedModule]:
    """Every module of the donor that has weights: small, so one at a time in memory.

    Args:
        blend: Of the models; a tensor of a module has no rule of its own.
        kernel: Does the arithmetic.
        allow_nonfinite: Go on over NaN and infinity.

    Raises:
        GeoError: As `stream` raises.
    """
    sources = [original(anchor) for anchor in blend.anchors]
    for place in weight_folders(sources[0].root, sources[0].inside):
        from mergekit_geo.merging.memory import MemorySink  # loads torch, for what few models have

        index = _index(sources[0], place)
        anchors = tuple(_module_in(source, index) for source in sources)
        part = Blend(anchors, blend.rule, blend.dtype)
        sink = MemorySink(part)
        with unchanged(anchors):
            records = stream(part, sink, kernel=kernel, allow_nonfinite=allow_nonfinite)
        yield MergedModule(place / _file(anchors[0]), sink.state, records)


def _index(donor: Checkpoint, place: Path) -> int:
    """Which module lies in a folder."""
    modules = read_modules(donor.root) if donor.root else ()
    return next(module.index for module in modules if Path(module.path) == place)


def _module_in(source: Checkpoint, index: int) -> Checkpoint:
    """A module's weights; its folder may be called otherwise than the donor's."""
    assert source.root is not None, "a merge of these is refused before it begins"
    path = read_modules(source.root)[index].path
    return open_folder(source.root / path, f"{source.name}/{path}")


def _file(checkpoint: Checkpoint) -> str:
    """What the weights are called; of several shards one file is made."""
    return checkpoint.files[0] if len(checkpoint.files) == 1 else "model.safetensors"
