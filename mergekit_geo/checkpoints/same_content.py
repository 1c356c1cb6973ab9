"""Whether files on the Hub are those on the disk: sizes, and the hashes that the Hub keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

    from huggingface_hub.hf_api import RepoFile

BLOCK = 1 << 20


def differences(
    local: Mapping[str, Path], remote: Iterable[RepoFile], advance: Callable[[int], None]
) -> list[str]:
    """List the files that differ, one line each; empty if all are the same.

    Args:
        local: Name in the repository to file.
        remote: The files of a commit; others than those in `local` do not matter.
        advance: Told of bytes that were read.
    """
    there = {file.path: file for file in remote}
    found = []
    for name, path in local.items():
        if name not in there:
            found.append(f"{name} is not there")
        elif there[name].size != path.stat().st_size:
            found.append(f"{name} has {there[name].size} bytes there, {path.stat().st_size} here")
        elif not _same_hash(path, there[name], advance):
            found.append(f"{name} has other content there")
    return found


def _same_hash(path: Path, file: RepoFile, advance: Callable[[int], None]) -> bool:
    """Compare hashes: SHA-256 for large files, git's blob SHA-1 for others."""
    if file.lfs is not None:
        return _digest(path, hashlib.sha256(), advance) == file.lfs.sha256
    begun = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    return _digest(path, begun, advance) == file.blob_id


def _digest(path: Path, begun: _Hash, advance: Callable[[int], None]) -> str:
    block = bytearray(BLOCK)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            begun.update(memoryview(block)[:count])
            advance(count)
    return begun.hexdigest()
