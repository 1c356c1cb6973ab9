"""What a checkpoint's folder holds, in one hash: whoever wrote it, and whenever."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mergekit_geo.checkpoints.adapter_settings import ADAPTER_CONFIG
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.sources import sources_of


def content_digest(folder: Path) -> str:
    """SHA-256 over configuration and weights; about a second for 1.5 GB.

    Args:
        folder: Of a checkpoint, or of an adapter.
    """
    total = hashlib.sha256()
    configs = [folder / "config.json", folder / ADAPTER_CONFIG]
    for path in sorted([*folder.glob("*.safetensors"), *configs]):
        if path.is_file():
            with path.open("rb") as file:
                total.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def checkpoint_digest(checkpoint: Checkpoint) -> str:
    """That of a checkpoint's folder; of both for a base with an adapter; empty in memory."""
    folders = [source.folder for source in sources_of(checkpoint)]
    digests = [content_digest(folder) for folder in folders if folder is not None]
    if len(digests) < len(folders):
        return ""
    joined = "".join(digests)
    return joined if len(digests) == 1 else hashlib.sha256(joined.encode()).hexdigest()
