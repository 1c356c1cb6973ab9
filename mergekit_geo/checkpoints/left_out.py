"""Which files of the donor are neither copied nor merged, and links out of it: each is named."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mergekit_geo.checkpoints.adapter.files import ADAPTER_WEIGHTS, Adapter
from mergekit_geo.checkpoints.adapter.settings import ADAPTER_CONFIG
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.components import PIPELINE, read_folders
from mergekit_geo.checkpoints.content import OURS
from mergekit_geo.checkpoints.index import index_of, weight_files
from mergekit_geo.checkpoints.module_folders import MODULES, at, files_in, weight_folders
from mergekit_geo.checkpoints.own_files import refuse_links
from mergekit_geo.checkpoints.side_files import (
    foreign_links,
    module_files,
    side_files_of,
    tokenizer_files,
)
from mergekit_geo.checkpoints.sources import parts_of

REPORT = {*OURS, "README.md", "figures/", "recipe.yml", "report.html"}
"""What an output of this package has beside the model; the next output has its own."""

SHOWN = 12
"""Most names in a warning; the report has them all."""


@dataclass(frozen=True)
class DonorFiles:
    """What an output does with each file of its donor; of an adapter and its base, those of both.

    Attributes:
        merged: Files of weights that are read, and their indices.
        copied: Files that go to the output, at most with keys changed.
        left_out: Files that the output does not have; folders of them end in `/`.
    """

    merged: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def donor_files(donor: Checkpoint) -> DonorFiles:
    """What an output does with each file of its donor.

    Left out are pickles, states of a training, exports of weights that are not the output's, its
    card, and whatever nobody here knows.
    """
    stored = _stored(donor)
    if stored.adapted is not None:
        return _with_adapter(donor_files(stored.adapted.base), stored.adapted.adapter.folder)
    if stored.root is None:
        return DonorFiles(merged=list(stored.files))
    copied = {path.as_posix() for path in side_files_of(stored.root)}
    merged = _weights_of(stored, stored.root)
    others = _others(stored.root, copied | merged, stored.listed)
    return DonorFiles(sorted(merged), sorted(copied), sorted(others))


def left_out(donor: Checkpoint) -> list[str]:
    """The files of the donor that an output does not have; folders of them end in `/`."""
    return donor_files(donor).left_out


def _with_adapter(base: DonorFiles, folder: Path) -> DonorFiles:
    """Those of a base, and those in the folder of an adapter on it."""
    copied = {path.as_posix() for path in (*tokenizer_files(folder), *module_files(folder))}
    merged = {ADAPTER_CONFIG, ADAPTER_WEIGHTS}
    others = _others(folder, copied | merged, ())
    return DonorFiles(
        sorted({*base.merged, *merged}),
        sorted({*base.copied, *copied}),
        sorted({*base.left_out, *others}),
    )


def left_out_warning(name: str, files: list[str]) -> list[str]:
    """The warning on files that are left out; empty if there are none.

    Example:
        >>> left_out_warning("a", ["notes.txt", "merge.json", "README.md"])
        ['files of a that the output does not have: notes.txt']
    """
    if not {*OURS}.isdisjoint(files):
        files = [file for file in files if file not in REPORT]
    if not files:
        return []
    more = f" and {len(files) - SHOWN} more (report.json)" if len(files) > SHOWN else ""
    return [f"files of {name} that the output does not have: {', '.join(files[:SHOWN])}{more}"]


def _others(folder: Path, taken: set[str], listed: Collection[str]) -> set[str]:
    """What is not taken of a folder, or of the repository that it is a part of."""
    entered = {file.split("/")[0] for file in taken if "/" in file}
    files = listed or _local(folder, entered)
    return {_short(file, entered) for file in files if file not in taken}


def _weights_of(stored: Checkpoint, folder: Path) -> set[str]:
    """The files of weights that are read of a model and its modules, and their indices."""
    own = {at(stored.inside, file) for file in stored.files}
    indices = {
        at(place, index)
        for place in {file.rpartition("/")[0] for file in own}
        if (index := index_of(_names_in(place, stored, folder)))
    }
    places = weight_folders(folder, stored.inside)
    apart = (_weights_in(folder, path.as_posix(), stored.name) for path in places)
    return own.union(indices, *apart)


def _names_in(place: str, stored: Checkpoint, folder: Path) -> set[str]:
    """Names of the files in a folder of a model's or its repository's."""
    if stored.listed:
        return files_in(stored.listed, place)
    return {path.name for path in (folder / place).iterdir()}


def _weights_in(folder: Path, place: str, name: str) -> set[str]:
    """The files of weights that are read of a module, and their index."""
    names = {path.name for path in (folder / place).iterdir()}
    index = index_of(names)
    found = [*weight_files(names, folder / place, name), *([index] if index else [])]
    return {at(place, file) for file in found}


def _home(source: Checkpoint | Adapter) -> Path | None:
    return source.root if isinstance(source, Checkpoint) else source.folder


def _stored(checkpoint: Checkpoint) -> Checkpoint:
    """What lies in folders or repositories."""
    checkpoint = checkpoint.within or checkpoint
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
    source = parts_of(checkpoint.within or checkpoint)[0]
    if (folder := _home(source)) is not None:
        modules = [path for module in read_folders(folder) for path in module.side_files]
        needed = [Path("config.json"), Path(MODULES), Path(PIPELINE), *modules]
        refuse_links(folder, needed, source.name)
