"""Links in a checkpoint's folder that lead out of it: named, or refused where they are needed."""

from __future__ import annotations

from pathlib import Path

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.module_folders import MODULES, read_modules
from mergekit_geo.checkpoints.own_files import refuse_links
from mergekit_geo.checkpoints.side_files import foreign_links
from mergekit_geo.checkpoints.sources import parts_of


def link_warnings(checkpoint: Checkpoint) -> list[str]:
    """Warnings on links that are not followed."""
    folders = [(s.name, s.folder) for s in parts_of(checkpoint) if s.folder is not None]
    return [
        f"{name}: {file} is a link that leads out of the folder: it is not copied"
        for name, folder in folders
        for file in foreign_links(folder)
    ]


def refuse_foreign_needs(checkpoint: Checkpoint) -> None:
    """Refuse a donor whose configuration, or that of a module, is not in its folder.

    Raises:
        UnsupportedError: It is a link that leads out.
    """
    source = parts_of(checkpoint)[0]
    if source.folder is not None:
        modules = [path for module in read_modules(source.folder) for path in module.side_files]
        needed = [Path("config.json"), Path(MODULES), *modules]
        refuse_links(source.folder, needed, source.name)
