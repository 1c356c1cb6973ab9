"""What a checkpoint is to the rest of the library: metadata, and a function that reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.reading import Read
from mergekit_geo.checkpoints.unchanged import Stamp
from mergekit_geo.records.model import License

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from mergekit_geo.checkpoints.adapter.adapter import Adapted
    from mergekit_geo.checkpoints.reshape.frame import Frame

Config = dict[str, Any]


def _itself(checkpoint: Checkpoint) -> Checkpoint:
    return checkpoint


@dataclass(frozen=True, eq=False, repr=False)
class Checkpoint:
    """Named tensors that can be read a chunk at a time.

    Attributes:
        name: As the user gave it.
        tensors: Every tensor's dtype and shape.
        read: Puts elements `start` to `stop` of a flattened tensor into a buffer, as stored.
        fingerprint: A JSON value that changes when the weights do (without reading them all).
        config: The parsed `config.json`; empty where there is none.
        folder: Where config and tokenizer files lie; None for one in memory.
        revision: Commit on the Hub; None if it comes from elsewhere.
        ties: Names in memory that share another name's tensor, and that name.
        stamps: Of the files that are read or copied, as they were before anything was read.
        is_local: Whether its data can be read without a download.
        fetched: Makes the one whose data is local.
        files: Names of the files in its folder or repository that hold its tensors.
        listed: All that its repository holds, where only a part of that is local.
        license: As the Hub has stated it; None where it has not.
        renamed: How tensors are called here, where that is not how they are stored; empty if it is.
        of: The checkpoint that this is a view of.
        stored: A renamed view's names to those in `of`; None for any other.
        reshaped: Whether its configuration, shapes or side files are not those of what it is a view
            of: a module of it is made of its own tensors and its own configuration.
        adapted: The base and the adapter that it is the sum of.
        state: The tensors in memory that it is read from, tied ones once.
        module: The module that it was made from.
        like: Another checkpoint of the same tensors, which says what runs them.
        in_memory: Whether all bytes are in memory.
        frame: The folder of a reshaped view, which is there as long as this is.
        copied: Names of tensors that a merge copies from the first model: parts that not all have.
        within: The model that this is seen as a part of: whose side files an output has.
        metadata: What the header of its first file states, such as `format`.
        inside: Place of `folder` in the folder that its name stands for, where that holds further
            modules and the model's own is one of them, such as `0_Transformer`; else empty.
    """

    name: str
    tensors: Mapping[str, TensorInfo]
    read: Read
    fingerprint: Callable[[], object]
    config: Config = field(default_factory=dict)
    folder: Path | None = None
    revision: str | None = None
    ties: Mapping[str, str] = field(default_factory=dict)
    stamps: tuple[Stamp, ...] = ()
    is_local: bool = True
    fetched: Callable[[Checkpoint], Checkpoint] = _itself
    files: tuple[str, ...] = ()
    listed: frozenset[str] = frozenset()
    license: License | None = None
    renamed: str = ""
    of: Checkpoint | None = None
    stored: Mapping[str, str] | None = None
    reshaped: bool = False
    adapted: Adapted | None = None
    state: Mapping[str, Tensor] | None = None
    module: Module | None = None
    like: Checkpoint | None = None
    in_memory: bool = False
    frame: Frame | None = None
    copied: frozenset[str] = frozenset()
    within: Checkpoint | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    inside: str = ""

    @property
    def root(self) -> Path | None:
        """The folder that its name stands for; None for one in memory."""
        if self.folder is None or not self.inside:
            return self.folder
        return self.folder.parents[self.inside.count("/")]

    @property
    def is_stored(self) -> bool:
        """Whether it lies on a disk or on the Hub, and its name opens it again."""
        return self.folder is not None or bool(self.stamps or self.files)

    def fetch(self) -> Checkpoint:
        """Download what is not local yet, and return the checkpoint over it.

        Raises:
            HubError: A download failed, or a file is not what the Hub states.
            IncompatibleError: It is an adapter that does not fit its base.
        """
        return self.fetched(self)
