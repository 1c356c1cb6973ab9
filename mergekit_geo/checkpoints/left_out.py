"""Which files of the donor are neither copied nor merged, and links out of it: each is named."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from mergekit_geo.checkpoints.adapter.files import ADAPTER_WEIGHTS, Adapter
from mergekit_geo.checkpoints.adapter.settings import ADAPTER_CONFIG
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.index import index_of, weight_files
from mergekit_geo.checkpoints.module_folders import MODULES, read_modules, weight_folders
from mergekit_geo.checkpoints.own_files import refuse_links
from mergekit_geo.checkpoints.side_files import (
    foreign_links,
    module_files,
    side_files_of,
    tokenizer_files,
)
from mergekit_geo.checkpoints.sources import parts_of

SHOWN = 12
"""Most names in a warning; the report has them all."""


def left_out(donor: Checkpoint) -> list[str]:
    """The files of the donor that an output does not have; folders of them end in `/`.

    They are pickles, states of a training, exports of weights that are not the output's, its card,
    and whatever nobody here knows. Of an adapter and its base, those of both.
    """
    stored = _stored(donor)
    if stored.adapted is not None:
        folder = stored.adapted.adapter.folder
        used = {*tokenizer_files(folder), *module_files(folder)}
        used |= {Path(ADAPTER_CONFIG), Path(ADAPTER_WEIGHTS)}
        own = _others(folder, {path.as_posix() for path in used}, ())
        return sorted({*left_out(stored.adapted.base), *own})
    if stored.root is None:
        return []
    taken = _taken(stored.root, stored)
    return sorted(_others(stored.root, taken, stored.listed))


def left_out_warning(name: str, files: list[str]) -> list[str]:
    """The warning on files that are left out; empty if there are none."""
    if not files:
        return []
    more = f" and {len(files) - SHOWN} more (report.json)" if len(files) > SHOWN else ""
    return [f"files of {name} that the output does not have: {', '.join(files[:SHOWN])}{more}"]


def _others(folder: Path, taken: set[str], listed: Collection[str]) -> set[str]:
    """What is not taken of a folder, or of the repository that it is a part of."""
    entered = {file.split("/")[0] for file in taken if "/" in file}
    files = listed or _local(folder, entered)
    return {_short(file, entered) for file in files if file not in taken}


def _taken(folder: Path, donor: Checkpoint) -> set[str]:
    """What is copied or merged, as paths relative to the folder."""
    copied = {path.as_posix() for path in side_files_of(folder)}
    places = {donor.inside, *(path.as_posix() for path in weight_folders(folder, donor.inside))}
    return copied.union(*(_weights_in(folder, place, donor.name) for place in places))


def _weights_in(folder: Path, place: str, name: str) -> set[str]:
    """The files of weights that are read in a folder of it, and their index."""
    names = {path.name for path in (folder / place).iterdir()}
    index = index_of(names)
    found = [*weight_files(names, folder / place, name), *([index] if index else [])]
    return {f"{place}/{file}" if place else file for file in found}


def _home(source: Checkpoint | Adapter) -> Path | None:
    return source.root if isinstance(source, Checkpoint) else source.folder


def _stored(checkpoint: Checkpoint) -> Checkpoint:
    """What lies in folders or repositories."""
    while checkpoint.of is not None:
        checkpoint = checkpoint.of
    return checkpoint


def _local(folder: Path, entered: set[str]) -> Iterator[str]:
    """Files, and folders as a whole unless something in them is taken."""
    for path in folder.iterdir():
        if path.name in entered:
            inside = (inner for inner in path.rglob("*") if inner.is_file())
            yield from (inner.relative_to(folder).as_posix() for inner in inside)
        elif not path.is_dir():
            yield path.name
        elif any(path.iterdir()):
            yield f"{path.name}/"


def _short(file: str, entered: set[str]) -> str:
    """A file, or the folder that it lies in where nothing there is taken."""
    first, slash, _ = file.partition("/")
    return file if first in entered else first + slash


def link_warnings(checkpoint: Checkpoint) -> list[str]:
    """Warnings on links that are not followed."""
    folders = [(s.name, folder) for s in parts_of(checkpoint) if (folder := _home(s)) is not None]
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
    if (folder := _home(source)) is not None:
        modules = [path for module in read_modules(folder) for path in module.side_files]
        needed = [Path("config.json"), Path(MODULES), *modules]
        refuse_links(folder, needed, source.name)
