"""Weights in folders beside the model that nothing says belong to it: told, with what to do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.left_out import donor_files
from mergekit_geo.checkpoints.module_folders import SAFE
from mergekit_geo.checkpoints.sources import original
from mergekit_geo.files.hub_id import inside

DEPTHS = ("*/*", "*/*/*")
ASIDE = re.compile(r"(^|/)(checkpoint-\d+|\.[^/]*)(/|$)")
"""Folders of a training's states, and hidden ones."""


def weights_beside(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Warnings on folders with weights in the models' folders that are not merged.

    Those that only the donor has are among its files that are left out.
    """
    sources = [original(checkpoint) for checkpoint in checkpoints]
    held = {source.name: _folders(source) for source in sources}
    donor, *others = held
    every = sorted(set().union(*held.values()))
    shared = [place for place in every if sum(place in own for own in held.values()) > 1]
    warnings = [
        f"weights in {place} of {name} are left out: {donor} has none there"
        for name in others
        for place in sorted(held[name] - held[donor])
    ]
    if shared:
        names = [inside(name, shared[0]) for name in held if shared[0] in held[name]]
        words = ["geo-merge", "soup", *names, "-o", f"OUT/{shared[0]}"]
        warnings.append(
            f"weights in {', '.join(shared)} are not merged: merge each folder by its name, such "
            f"as {shlex.join(words)}"
        )
    return warnings


def _folders(source: Checkpoint) -> set[str]:
    """Folders in a model's folder with weights that are not its own."""
    if source.root is None or source.adapted is not None:
        return set()
    found = source.listed or {
        path.relative_to(source.root).as_posix()
        for depth in DEPTHS
        for path in source.root.glob(f"{depth}{SAFE}")
    }
    merged = donor_files(source).merged
    below = {file.rpartition("/")[0] for file in found if file.endswith(SAFE)} - {""}
    return {place for place in below if not _is_read(place, merged) and not ASIDE.search(place)}


def _is_read(place: str, merged: Sequence[str]) -> bool:
    return any(file.rpartition("/")[0] == place for file in merged)
