"""Settings of an output, checked where they are made."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mergekit_geo.config.option import check, option, shared
from mergekit_geo.errors import ArgumentError
from mergekit_geo.outputs.destination import Destination
from mergekit_geo.outputs.layout import parse_size

DTYPES = {"float64": "F64", "float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""Output dtypes as torch names them, to the names of the safetensors format."""

REQUIRABLE = ("not-worse",)
PANEL = "Output"


@dataclass(frozen=True)
class OutputConfig:
    """How a merged checkpoint is written.

    Every float tensor has the first model's own dtype where none is named. What is pushed is pushed
    once it is whole on the disk, and only if it holds what is required: `not-worse` asks that
    losses tell that the output is not significantly worse than its best parent.
    """

    dtype: str | None = option(
        None, "Of the output; the first model's by default.", panel=PANEL, choices=tuple(DTYPES)
    )
    max_shard_size: str = option("5GB", "Such as 5GB or 500MB.", panel=PANEL)
    overwrite: bool = option(False, "Replace an output when the new one is whole.", panel=PANEL)
    fsync: bool = option(
        True, "Leave flushing to the system: faster.", "--no-fsync", panel=PANEL, switches_off=True
    )
    allow_nonfinite: bool = option(False, "Merge over NaN and infinity.", panel=PANEL)
    device: str = shared("cpu", "--device")
    push_to: str | None = option(
        None, "Repository on the Hub, once the output is whole.", panel=PANEL
    )
    private: bool = option(False, "Make that repository private.", panel=PANEL)
    require: str | None = option(
        None, "not-worse: exit 3 if worse than a parent.", panel=PANEL, choices=REQUIRABLE
    )

    def __post_init__(self) -> None:
        parse_size(self.max_shard_size)
        check(self)
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
