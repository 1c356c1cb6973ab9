"""A blend streamed to the shards of an output, taken up where an earlier run stopped."""

from __future__ import annotations

from collections.abc import Callable

from mergekit_geo.checkpoints.sources import original
from mergekit_geo.errors import DiskFullError
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.kernels import Kernel
from mergekit_geo.merging.stream import stream
from mergekit_geo.merging.tensor_record import TensorRecord
from mergekit_geo.outputs.layout import Shard, plan_output
from mergekit_geo.outputs.output import Output
from mergekit_geo.outputs.writer import ShardWriter
from mergekit_geo.portable import allow_many_files

FLUSH_BYTES = 1 << 30
"""Data between two flushes; at most so much is merged again after a power cut."""


def write_blend(
    blend: Blend,
    output: Output,
    max_shard_bytes: int,
    *,
    kernel: Kernel | None = None,
    allow_nonfinite: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, TensorRecord]:
    """Stream a blend to safetensors files in the output's folder.

    Args:
        blend: Anchors and rule.
        output: Holds the files and the journal, of work that has begun.
        max_shard_bytes: Most bytes of data in a file.
        kernel: Does the arithmetic; the fastest on the CPU by default.
        allow_nonfinite: Go on over NaN and infinity.
        advance: Called with numbers of elements done.

    Returns:
        What was done, for every tensor, in the donor's order.

    Raises:
        DiskFullError: The files do not fit.
        GeoError: As `stream` raises.
    """
    allow_many_files()
    outputs = blend.outputs()
    donor = blend.donor
    volumes = plan_output(outputs, max_shard_bytes, donor.config, original(donor).metadata)
    shards = [shard for volume in volumes for shard in volume.shards]
    earlier = _finished(output, shards, blend.donor.inside)
    advance(blend.work(earlier))
    folder = output.folder / blend.donor.inside
    for shard in shards:
        (folder / shard.file).parent.mkdir(parents=True, exist_ok=True)
    try:
        writer = ShardWriter(folder, shards)
    except DiskFullError:
        if not earlier:
            output.discard()
        raise
    ledger = _Ledger(blend, output, writer)
    try:
        records = stream(
            blend,
            writer,
            skip=earlier,
            kernel=kernel,
            allow_nonfinite=allow_nonfinite,
            finished=ledger.add,
            advance=advance,
        )
        ledger.settle()
    finally:
        writer.close()
    for index in (volume.index for volume in volumes if volume.index):
        (folder / index[0]).write_text(index[1], "utf-8")
    done = earlier | records
    return {name: done[name] for name in outputs}


def _finished(output: Output, shards: list[Shard], inside: str) -> dict[str, TensorRecord]:
    """What an earlier run wrote, if its files are all there."""
    paths = [(output.folder / inside / shard.file, shard.nbytes) for shard in shards]
    if not all(path.is_file() and path.stat().st_size == nbytes for path, nbytes in paths):
        return {}
    return {name: TensorRecord.from_json(raw) for name, raw in output.finished.items()}


class _Ledger:
    """Writes finished tensors to the journal, but only after their data is as safe as asked."""

    def __init__(self, blend: Blend, output: Output, writer: ShardWriter) -> None:
        self.outputs = blend.outputs()
        self.output, self.writer = output, writer
        self._waiting: dict[str, TensorRecord] = {}
        self._bytes = 0

    def add(self, name: str, record: TensorRecord) -> None:
        self._waiting[name] = record
        self._bytes += self.outputs[name].nbytes
        if not self.output.fsync or self._bytes > FLUSH_BYTES:
            self.settle()

    def settle(self) -> None:
        if self.output.fsync:
            self.writer.flush()
        for name, record in self._waiting.items():
            self.output.journal.add(name, record.to_json())
        if self.output.fsync:
            self.output.journal.flush()
        self._waiting.clear()
        self._bytes = 0
