"""`org/name@revision:folder`: a repository on the Hub, one of its states, a folder in it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from mergekit_geo.errors import NotFoundError
from mergekit_geo.files.local_path import local_path

PATTERN = re.compile(
    r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?"
    r"(:(?P<subfolder>[\w-][\w.-]*(/[\w-][\w.-]*)*)/?)?"
)


@dataclass(frozen=True)
class HubId:
    """What is meant of the Hub.

    Attributes:
        repo: `org/name`.
        revision: Branch, tag or commit; None is the main branch.
        subfolder: Folder of the repository; empty for its root.
    """

    repo: str
    revision: str | None = None
    subfolder: str = ""

    @classmethod
    def parse(cls, text: str) -> HubId | None:
        """The id that a text is; None where it cannot be one.

        Example:
            >>> HubId.parse("org/name@v1:unet")
            HubId(repo='org/name', revision='v1', subfolder='unet')
            >>> HubId.parse("models/a/b"), HubId.parse("org/name:../x")
            (None, None)
        """
        found = PATTERN.fullmatch(text)
        return found and cls(found["repo"], found["revision"], found["subfolder"] or "")

    def at(self, revision: str | None) -> HubId:
        """Name another state of the repository."""
        return replace(self, revision=revision)

    def file(self, name: str) -> str:
        """Path in the repository of a file of the folder.

        Example:
            >>> HubId("org/name", subfolder="unet").file("config.json")
            'unet/config.json'
        """
        return f"{self.subfolder}/{name}" if self.subfolder else name

    def __str__(self) -> str:
        """Spell it as a user does.

        Example:
            >>> str(HubId("org/name", "v1", "unet")), str(HubId("org/name"))
            ('org/name@v1:unet', 'org/name')
        """
        at = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}{at}{self.subfolder and f':{self.subfolder}'}"


def split_subfolder(text: str) -> tuple[Path, str] | None:
    r"""Folder and subfolder of `folder:subfolder`; None where no such folder is there.

    What exists under the whole name is no such pair, nor is a path with a drive letter.

    Raises:
        ArgumentError: No file system can have such a path.

    Example:
        >>> split_subfolder("C:\\models\\a"), split_subfolder("org/name:unet")
        (None, None)
    """
    head, colon, below = text.rpartition(":")
    inside = PurePosixPath(below)
    if not (colon and head and inside.parts) or local_path(text).exists():
        return None
    if inside.is_absolute() or ".." in inside.parts or "\\" in below:
        return None
    folder = local_path(head)
    return (folder, str(inside)) if folder.is_dir() else None


def inside(name: str, below: str) -> str:
    """What a folder in a model's folder or repository is called.

    Args:
        name: What the user calls the model.
        below: The folder in it.

    Example:
        >>> inside("org/name@v1", "unet"), inside("models/a", "")
        ('org/name@v1:unet', 'models/a')
    """
    if not below:
        return name
    found = None if local_path(name).exists() or split_subfolder(name) else HubId.parse(name)
    return str(replace(found, subfolder=found.file(below))) if found else f"{name}/{below}"


def no_subfolder(place: str, subfolder: str, there: Collection[str]) -> NotFoundError:
    """The error of a folder that is not in a repository, or in another folder.

    Args:
        place: Where it is missing.
        subfolder: What was asked for.
        there: The folders that are in it.
    """
    return NotFoundError(
        f"{place} has no folder {subfolder}",
        where=f"{place}:{subfolder}",
        remedy=f"folders in it: {', '.join(sorted(there)) or 'none'}",
    )
