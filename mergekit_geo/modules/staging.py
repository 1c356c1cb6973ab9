"""A folder of links to those files of a checkpoint that may be loaded, and to no others.

transformers takes other weights than those that were checked where it finds them: those that
`config.json` names, a pickle, an adapter, another program's shards. Here it does not find them.
"""

from __future__ import annotations

import json
from pathlib import Path

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.configuration import config_text
from mergekit_geo.checkpoints.folder import read_config
from mergekit_geo.checkpoints.headless import without_head
from mergekit_geo.checkpoints.index import INDEX, SINGLE, read_index, read_tensors, weight_files
from mergekit_geo.checkpoints.loading import harmless

GENERATION = "generation_config.json"
SUFFIX = ".safetensors"
"""Suffix by which transformers tells what it may map into memory from what it unpickles."""

WEIGHTS = (SUFFIX, ".bin", ".pt", ".pth", ".ckpt", ".index.json", ".metadata", ".distcp")
"""Ends of names of what may hold weights, or say where they are."""


def stage(into: Path, folder: Path | None, config: Config | None, *, trusted: bool) -> Path:
    """Make a folder that transformers can load from, of a checkpoint's name.

    Args:
        into: An empty folder.
        folder: Of the checkpoint; None where there is none.
        config: Of weights that are in memory; with None they are those of the folder.
        trusted: Whether code of the checkpoint may run: then its other files are there too.

    Raises:
        FormatError: It cannot be told which files hold the weights.
    """
    staged = into / ((folder and folder.resolve().name) or "model")
    staged.mkdir()
    if folder is not None and config is None:
        _link_weights(folder, staged)
    if folder is not None:
        _link_others(folder, staged, trusted=trusted)
    found = config
    if folder is not None and config is None:
        found = without_head(read_config(folder), folder, read_tensors(folder))
    (staged / "config.json").write_text(config_text(harmless(found, trusted=trusted)), "utf-8")
    return staged


def _link_weights(folder: Path, staged: Path) -> None:
    files = weight_files({path.name for path in folder.iterdir()}, folder, str(folder))
    if SINGLE in files or not (folder / INDEX).is_file():
        _link(folder / files[0], staged / SINGLE)
        return
    names = {file: f"{number:05}{SUFFIX}" for number, file in enumerate(files)}
    for file, name in names.items():
        _link(folder / file, staged / name)
    weight_map = {tensor: names[file] for tensor, file in read_index(folder / INDEX).items()}
    index = {"metadata": {}, "weight_map": weight_map}
    (staged / INDEX).write_text(json.dumps(index), "utf-8")


def _link_others(folder: Path, staged: Path, *, trusted: bool) -> None:
    """How text is generated, and what the code of a model that is trusted may look for."""
    for path in folder.iterdir():
        wanted = trusted and not path.name.endswith(WEIGHTS) and path.name != "adapter_config.json"
        if path.name == GENERATION or (wanted and path.name != "config.json"):
            _link(path, staged / path.name)


def _link(file: Path, link: Path) -> None:
    link.symlink_to(file.resolve())
