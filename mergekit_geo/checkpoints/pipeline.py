"""Whole pipelines of diffusers: several models in one folder, each of which is merged by itself."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path

from mergekit_geo.errors import UnsupportedError

PIPELINE = "model_index.json"


def refuse_pipeline(name: str, files: Collection[str]) -> None:
    """Refuse the files of a pipeline.

    Args:
        name: What the user calls it.
        files: All of them, as paths relative to it.

    Raises:
        UnsupportedError: They are, with the command for one part.
    """
    if PIPELINE not in files:
        return
    weights = (file for file in files if file.endswith(".safetensors") and "/" in file)
    parts = sorted({file.partition("/")[0] for file in weights})
    repo = name.partition("@")[0]
    here = Path(name).is_dir()
    folder = name if here else Path(repo).name
    fetch = "" if here else f"{shlex.join(['hf', 'download', repo, '--local-dir', folder])}, then "
    one = parts[0] if parts else "unet"
    command = shlex.join(
        ["geo-merge", "soup", f"{folder}/{one}", f"OTHER/{one}", "-o", f"OUT/{one}"]
    )
    raise UnsupportedError(
        f"this is a whole pipeline ({PIPELINE}), not one model; its parts with weights in "
        f"safetensors: {', '.join(parts) or 'none'}",
        where=name,
        remedy=f"merge part by part: {fetch}{command}",
    )
