"""Settings of an output, checked where they are made."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mergekit_geo.errors import ArgumentError
from mergekit_geo.outputs.destination import Destination
from mergekit_geo.outputs.layout import parse_size

DTYPES = {"float64": "F64", "float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""Output dtypes as torch names them, to the names of the safetensors format."""

REQUIRABLE = (None, "not-worse")


@dataclass(frozen=True)
class OutputConfig:
    """How a merged checkpoint is written.

    Attributes:
        dtype: Of every float tensor: `float64`, `float32`, `bfloat16`, `float16`; the first
            model's own if None.
        max_shard_size: Most data in a file, such as `5GB`.
        overwrite: Replace an output that is there, when the new one is whole.
        fsync: Flush to the disk before the output appears.
        allow_nonfinite: Merge models that hold NaN or infinity.
        device: Where the arithmetic of the merge happens.
        push_to: Repository on the Hub that the output is pushed to once it is whole on the disk.
        private: Make that repository private.
        require: What must hold for that, `not-worse`: losses tell that the output is not
            significantly worse than its best parent.
    """

    dtype: str | None = None
    max_shard_size: str = "5GB"
    overwrite: bool = False
    fsync: bool = True
    allow_nonfinite: bool = False
    device: str = "cpu"
    push_to: str | None = None
    private: bool = False
    require: str | None = None

    def __post_init__(self) -> None:
        parse_size(self.max_shard_size)
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ArgumentError(f"dtype {self.dtype!r}: expected one of {', '.join(DTYPES)}")
        if self.require not in REQUIRABLE:
            raise ArgumentError(f"require {self.require!r}: expected {REQUIRABLE[1]!r} or None")
        if self.push_to is not None:
            Destination(self.push_to, self.private)
        elif self.private:
            raise ArgumentError(
                "private applies only to a repository that is pushed to, and push_to is not given",
                remedy="--push-to REPO",
            )

    @property
    def stored_dtype(self) -> str | None:
        """The dtype as the safetensors format names it."""
        return None if self.dtype is None else DTYPES[self.dtype]

    @property
    def local(self) -> OutputConfig:
        """Copy without the settings of what follows once the output is written: push and gate."""
        return replace(self, push_to=None, private=False, require=None)
