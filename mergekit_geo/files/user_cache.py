"""Files of ours in the user's cache: private, whole or absent, not trusted if others can write.

What is kept there only saves work. Whatever is wrong with it costs a warning, never the command.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from mergekit_geo.files.replacement import replacing
from mergekit_geo.portable import user_id

Warn = Callable[[str], None]

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
SEAL = 65
"""Bytes after a file's content: a line break, and the SHA-256 of the content in hexadecimal."""


class CacheFolder:
    """A folder in the user's cache.

    Args:
        name: Of the folder, in ours.
        warn: Told, once, why something that is kept cannot be used or kept.

    Attributes:
        folder: Its path.
        works: Whether all that was asked of it could be done.
    """

    def __init__(self, name: str, warn: Warn = lambda text: None) -> None:
        self.root = cache_folder()
        self.folder = self.root / name
        self.works, self._warn = True, warn

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none that can be trusted."""
        path = self.trusted(name)
        if path is None:
            return None
        try:
            content = path.read_bytes()
        except OSError as error:
            self._tell(f"cannot be used ({_reason(error)}): measured anew")
            return None
        found = content[:-SEAL]
        if content[-SEAL:] != _seal(found):
            self.unsound()
            return None
        return found

    def trusted(self, name: str) -> Path | None:
        """A file that nobody but the user can have written; None where there is no such file."""
        path = self.folder / name
        try:
            if not os.path.lexists(path):
                return None
            for folder in (self.root, self.folder):
                _require_private(folder, stat.S_ISDIR(folder.stat().st_mode))
            _require_private(path, stat.S_ISREG(path.lstat().st_mode))
        except OSError as error:
            self._tell(f"cannot be used ({_reason(error)}): measured anew")
            return None
        return path

    def unsound(self) -> None:
        """Tell that a file is not what was written."""
        self._tell("is damaged in part: measured anew")

    def write(self, name: str, fill: Callable[[BinaryIO], object]) -> bool:
        """Keep a file; says whether it is kept."""

        def sealed(file: BinaryIO) -> None:
            fill(file)
            file.flush()
            file.seek(0)
            file.write(_seal_of(file))

        return self.write_plain(name, sealed)

    def write_plain(self, name: str, fill: Callable[[BinaryIO], object]) -> bool:
        """Write a file atomically, without the checksum at its end that `read` verifies."""
        try:
            self.make()
            path = self.folder / name
            with replacing(path, fsync=False) as fresh, fresh.open("w+b") as file:  # it is sealed
                fill(file)
        except OSError as error:
            self._tell(f"cannot be used ({_reason(error)}): nothing is kept for a later run")
            return False
        return True

    def make(self) -> None:
        """Make the folder, private to the user.

        Raises:
            OSError: It cannot be made, or others can write to it.
        """
        self.root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.root, self.folder):
            folder.mkdir(mode=0o700, exist_ok=True)
            _require_private(folder, stat.S_ISDIR(folder.stat().st_mode))

    def _tell(self, what: str) -> None:
        if self.works:
            self.works = False
            self._warn(f"the cache {self.root} {what}")


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/mergekit_geo`, or the same under `~/.cache`.

    A relative `XDG_CACHE_HOME` counts as none, as the XDG base directory specification has it.
    """
    stated = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if stated.is_absolute():
        return stated / "mergekit_geo"
    try:
        return Path.home() / ".cache" / "mergekit_geo"
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / f"mergekit_geo-{user_id()}"


class _NotPrivateError(OSError):
    """Others could have written it."""


def _require_private(path: Path, right_kind: bool) -> None:
    found = path.stat()
    if not right_kind:
        raise _NotPrivateError(f"{path} is no plain file or folder")
    if user_id() is None:  # the system keeps others out of a user's folders
        return
    if found.st_uid != user_id():
        raise _NotPrivateError(f"{path} belongs to another user")
    if found.st_mode & OTHERS_WRITE:
        raise _NotPrivateError(f"others can write to {path}; remove it, or chmod go-w")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _seal(content: bytes) -> bytes:
    return f"\n{hashlib.sha256(content).hexdigest()}".encode()


def _seal_of(file: BinaryIO) -> bytes:
    """Checksum line of an open file, read from its current position to its end."""
    return f"\n{hashlib.file_digest(file, 'sha256').hexdigest()}".encode()  # type: ignore[arg-type]
