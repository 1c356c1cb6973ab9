"""Which files in a folder are its own: links that lead out of it could publish anybody's files.

Weights are read through any link, as shards often lie on another disk. What is copied to an output
or pushed is a checkpoint's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mergekit_geo.errors import UnsupportedError

REPOSITORY = re.compile(r"(models|datasets|spaces)--.+")
"""A folder of the hub client's cache, which holds `snapshots` of links into its own `blobs`."""


def is_own(folder: Path, file: Path) -> bool:
    """Whether a file of a folder lies in it, or where the hub client keeps what a snapshot holds.

    Args:
        folder: Of a checkpoint or an output.
        file: Relative to it.
    """
    home = folder.resolve()
    real = (home / file).resolve()
    return real.is_relative_to(home) or any(real.parent == blobs for blobs in _blobs(home))


def own(folder: Path, files: Iterable[Path]) -> list[Path]:
    """Keep the files that are a folder's own, by `is_own`, in their order."""
    return [file for file in files if is_own(folder, file)]


def refuse_links(folder: Path, needed: Sequence[Path], name: str) -> None:
    """Refuse a checkpoint of which no output can be made without a file that is not its own.

    Args:
        folder: Of the checkpoint.
        needed: Relative to it.
        name: What the user calls it.

    Raises:
        UnsupportedError: With the file, and where it leads.
    """
    for file in needed:
        if (folder / file).exists() and not is_own(folder, file):
            raise UnsupportedError(
                f"{file} is a link that leads out of the folder, to {(folder / file).resolve()}: "
                "it would be copied into the output",
                where=name,
                remedy="put a copy in its place, or name the folder that it leads to",
            )


def _blobs(home: Path) -> list[Path]:
    """Folders with the files of a snapshot in the Hub's cache, or of a folder in one."""
    found = (place.parent for place in home.parents if place.name == "snapshots")
    return [repo / "blobs" for repo in found if REPOSITORY.fullmatch(repo.name)]
