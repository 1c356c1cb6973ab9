"""Where a checkpoint comes from: its folder or repository, or those of a base and an adapter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mergekit_geo.checkpoints.adapter.adapter import AdapterCheckpoint
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.renamed import original


@dataclass(frozen=True)
class Source:
    """A folder or repository that a checkpoint comes from.

    Attributes:
        name: What the user calls it.
        revision: Commit of the Hub, where it comes from there.
        folder: Where its files lie; None in memory.
    """

    name: str
    revision: str | None
    folder: Path | None

    @property
    def pinned(self) -> str:
        """A reference to this commit, wherever branches move.

        >>> Source("org/a@main", "5d0f2e8", None).pinned, Source("a", None, Path("a")).pinned
        ('org/a@5d0f2e8', 'a')
        """
        return f"{self.name.partition('@')[0]}@{self.revision}" if self.revision else self.name


def sources_of(checkpoint: Checkpoint) -> tuple[Source, ...]:
    """One source, or two for an adapter: the base, then what is added to it."""
    found = original(checkpoint)
    if isinstance(found, AdapterCheckpoint):
        return tuple(Source(p.name, p.revision, p.folder) for p in (found.base, found.adapter))
    return (Source(found.name, found.revision, found.folder),)


def folders_of(checkpoints: Iterable[Checkpoint]) -> list[Path]:
    """Every folder that checkpoints are read from."""
    sources = [source for checkpoint in checkpoints for source in sources_of(checkpoint)]
    return [source.folder for source in sources if source.folder is not None]


def pinned(checkpoint: Checkpoint) -> str:
    """A reference that opens just this checkpoint again."""
    return "+".join(source.pinned for source in sources_of(checkpoint))
