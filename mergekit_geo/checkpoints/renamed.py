"""A checkpoint under other tensor names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.configuration import without_ties
from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.checkpoints.stated_license import stated_license
from mergekit_geo.checkpoints.unchanged import Stamp, stamps_of
from mergekit_geo.records.model import License


class AlignedCheckpoint:
    """A view of a checkpoint in which each tensor bears the donor's name.

    Args:
        checkpoint: Where the tensors are.
        stored: The donor's name to the name in `checkpoint`.
        untied: Whether tensors that its configuration ties are read one by one all the same.
    """

    def __init__(
        self, checkpoint: Checkpoint, stored: Mapping[str, str], *, untied: bool = False
    ) -> None:
        self.checkpoint, self.stored, self.untied = checkpoint, stored, untied
        self.tensors: Mapping[str, TensorInfo] = {
            name: checkpoint.tensors[own] for name, own in stored.items()
        }

    @property
    def name(self) -> str:
        """Name as the user gave it."""
        return self.checkpoint.name

    @property
    def revision(self) -> str | None:
        """Commit on the Hub; None if it comes from elsewhere."""
        return self.checkpoint.revision

    @property
    def config(self) -> Config:
        """The parsed `config.json`, as it is to be for these tensors."""
        config = self.checkpoint.config
        return without_ties(config) if self.untied else config

    @property
    def folder(self) -> Path | None:
        """Where config and tokenizer files lie."""
        return self.checkpoint.folder

    @property
    def ties(self) -> Mapping[str, str]:
        """Names in memory that share another name's tensor, and that name."""
        return {} if self.untied else self.checkpoint.ties

    @property
    def license(self) -> License | None:
        """License that its model card states."""
        return stated_license(self.checkpoint)

    @property
    def is_local(self) -> bool:
        """Whether its data can be read without a download."""
        return self.checkpoint.is_local

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """Stamps of the files that it is read from."""
        return stamps_of(self.checkpoint)

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        """Put elements `start` to `stop` of the flattened tensor into `out`, as they are stored."""
        self.checkpoint.read(self.stored[name], start, stop, out)

    def fingerprint(self) -> object:
        """Identity of the checkpoint, with the names."""
        return [
            self.checkpoint.fingerprint(),
            sorted(self.stored.items()),
            *["untied"] * self.untied,
        ]

    def fetch(self) -> AlignedCheckpoint:
        """Download what is missing, and return the renamed view over it."""
        return AlignedCheckpoint(self.checkpoint.fetch(), self.stored, untied=self.untied)


def is_untied(checkpoint: Checkpoint) -> bool:
    """Whether tensors that a checkpoint's files tie are read one by one."""
    return bool(getattr(checkpoint, "untied", False))


def is_renamed(checkpoint: Checkpoint) -> bool:
    """Whether tensors have other names in a checkpoint's files, which nothing loads."""
    return bool(getattr(original(checkpoint), "renamed", ""))


def original(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint under its own names."""
    while isinstance(checkpoint, AlignedCheckpoint):
        checkpoint = checkpoint.checkpoint
    return checkpoint
