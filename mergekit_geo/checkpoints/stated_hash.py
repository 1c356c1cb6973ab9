"""Files from a Hub against the SHA-256 that it states of them, each once.

The hub client does not look: a file that was garbled on its way, or on the disk since, would be
merged. In the client's cache a large file is called by its hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mergekit_geo.errors import HubError
from mergekit_geo.files.regular import file_digest
from mergekit_geo.files.user_cache import CacheFolder

SHA256 = re.compile("[0-9a-f]{64}")
AT_ONCE = 4


def require_stated_hashes(
    folder: Path, files: Iterable[str], name: str, stated: Mapping[str, str] | None = None
) -> None:
    """Refuse files whose content is not what the Hub says it is.

    What was found is remembered in the user's cache, until the file changes.

    Args:
        folder: A snapshot in the cache of the hub client.
        files: Names in it. Those that are not there, or of which no SHA-256 is stated, such as
            small ones, are not looked at.
        name: What the user calls the model.
        stated: SHA-256 by name; where it is missing, what the file in the cache is called tells it.

    Raises:
        HubError: Of the first such file.
    """
    real = {file: (folder / file).resolve() for file in files if (folder / file).is_file()}
    expected = {file: (stated or {}).get(file) or blob.name for file, blob in real.items()}
    known = [file for file, sha in expected.items() if SHA256.fullmatch(sha)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda file: _sha256(real[file]), known)
        for file, sha in zip(known, found, strict=True):
            if sha != expected[file]:
                raise _garbled(folder / file, real[file], expected[file], sha, name)


def _sha256(path: Path) -> str:
    """SHA-256 of a file; from the cache if size and times are unchanged."""
    status = path.stat()
    now = [str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    memory = CacheFolder("hashes")
    entry = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    if (kept := memory.read(entry)) is not None:
        *then, sha = json.loads(kept)
        if then == now:
            return str(sha)
    sha = file_digest(path)
    memory.write(entry, lambda file: file.write(json.dumps([*now, sha]).encode()))
    return sha


def _garbled(path: Path, real: Path, expected: str, found: str, name: str) -> HubError:
    return HubError(
        f"{path.name} is not what the Hub states: expected SHA-256 {expected}, found {found}",
        where=name,
        remedy=f"delete {real} and {path}, then run again: it is downloaded anew",
    )
