"""A checkpoint in a folder; and a bend of a fitted curve, one of several in a file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.components import PIPELINE, weighted_components
from mergekit_geo.checkpoints.configuration import parse_config, refuse_oversized, refuse_unlike
from mergekit_geo.checkpoints.header import Entries, read_header, read_metadata
from mergekit_geo.checkpoints.headless import without_head
from mergekit_geo.checkpoints.index import (
    INDEXES,
    absent_tensors,
    read_index,
    read_tensors,
    weight_files,
)
from mergekit_geo.checkpoints.module_folders import MODULES, backbone_of
from mergekit_geo.checkpoints.naming import schema_of
from mergekit_geo.checkpoints.pipeline import joined
from mergekit_geo.checkpoints.reading import FileReader
from mergekit_geo.checkpoints.stated_hash import require_stated_hashes
from mergekit_geo.checkpoints.unchanged import Stamp, stamps_in
from mergekit_geo.checkpoints.unreadable import (
    quantised_errors,
    refuse_pickled_component,
    refuse_quantised,
    refuse_unreadable,
)
from mergekit_geo.checkpoints.wrappers import note, refuse_factors, unwrapped
from mergekit_geo.errors import FormatError, NotFoundError
from mergekit_geo.files.hub_id import inside
from mergekit_geo.files.regular import file_digest, find_irregular
from mergekit_geo.files.sound_json import brief, read_json
from mergekit_geo.records.model import License


def open_folder(
    folder: Path,
    name: str | None = None,
    revision: str | None = None,
    stated: License | None = None,
    listed: frozenset[str] = frozenset(),
) -> Checkpoint:
    """A checkpoint in a folder: safetensors files, read by position.

    Args:
        folder: Holds `config.json` and the weights.
        name: What the user calls it; the folder's path by default.
        revision: Commit of the Hub that the folder is a snapshot of.
        stated: Its license, where the Hub has told it; that of the folder's card if None.
        listed: All that its repository holds, where only a part of that is here.

    Raises:
        NotFoundError: No such folder.
        UnsupportedError: Pickled or quantised weights, or an adapter.
        FormatError: The files contradict themselves.
    """
    name = name or str(folder)
    names = {path.name for path in list_files(folder, name)}
    if PIPELINE in names:
        return _open_pipeline(folder, name, revision, stated, listed)
    if MODULES in names and (place := backbone_of(folder)):
        refuse_unreadable(inside(name, place), {path.name for path in (folder / place).iterdir()})
        found = open_folder(folder / place, name, revision, stated, listed)
        return replace(found, inside=place, stamps=(*found.stamps, *stamps_in(folder)))
    below = {path.relative_to(folder).as_posix() for path in folder.glob("*/*.safetensors")}
    refuse_unreadable(name, names | below)
    before, config = stamps_in(folder, *_weights(folder)), read_config(folder)
    stored = _sound_tensors(folder, config, name)
    found = _of_entries(stored, without_head(config, folder, stored), before, name)
    return replace(
        found,
        folder=folder,
        revision=revision,
        fetched=_verified,
        listed=listed,
        license=stated,
    )


def _open_pipeline(
    folder: Path, name: str, revision: str | None, stated: License | None, listed: frozenset[str]
) -> Checkpoint:
    parts = {}
    for component in weighted_components(folder, where=name):
        refuse_pickled_component(component, name)
        place = component.path
        parts[place] = open_folder(folder / place, inside(name, place), revision)
    return joined(name, folder, parts, revision=revision, listed=listed, stated=stated)


def open_file(file: Path, name: str | None = None) -> Checkpoint:
    """A checkpoint in one safetensors file.

    It is the model of its folder, with configuration and tokenizer, where the folder's weights are
    in this file; otherwise nothing beside it belongs to it.

    Args:
        file: Its path.
        name: What the user calls it; the path by default.

    Raises:
        UnsupportedError: Quantised weights, or an adapter's.
        FormatError: It is unsound, or one of several shards.
    """
    name, folder = name or str(file), file.parent
    shards = [folder / index for index in INDEXES if (folder / index).is_file()]
    if any(file.name in read_index(index).values() for index in shards):
        refuse_shard(name, str(folder))
    return open_folder(folder, name) if _holds_all(folder, file) else open_alone(file, name)


def refuse_shard(name: str, folder: str) -> NoReturn:
    """Refuse a file that holds a part of a model's weights.

    Raises:
        FormatError: With the folder to name instead.
    """
    raise FormatError(
        "this is one shard of a model", where=name, remedy=f"give its folder, {folder}"
    )


def open_alone(file: Path, name: str) -> Checkpoint:
    """The tensors of a safetensors file, without what lies beside it.

    Args:
        file: Its path.
        name: What the user calls it.
    """
    stamps = (Stamp.of(file),)
    entries = read_header(file)
    refuse_factors(entries, name)
    return _of_entries(entries, {}, stamps, name)


def _holds_all(folder: Path, file: Path) -> bool:
    """Whether a folder with a configuration has its weights in this file."""
    try:
        names = {path.name for path in folder.iterdir()}
        return "config.json" in names and weight_files(names, folder, "") == [file.name]
    except FormatError:
        return False


def _of_entries(stored: Entries, config: Config, before: Sequence[Stamp], name: str) -> Checkpoint:
    """A checkpoint of the tensors of files, of which stamps were taken before they were read."""
    entries = unwrapped(stored, config, name)
    used = {place.path for _, place in entries.values()}
    stamps = tuple(s for s in before if s.path in used or not _may_hold_weights(s.path))
    reader = FileReader(entries, stamps)
    return Checkpoint(
        name=name,
        tensors=reader.tensors,
        read=reader.read,
        fingerprint=reader.fingerprint,
        config=config,
        stamps=stamps,
        files=tuple(sorted(path.name for path in used)),
        renamed=note(stored, entries, name),
        metadata=read_metadata(min(used)) if used else {},
    )


def _sound_tensors(folder: Path, config: Config, name: str) -> Entries:
    """Every tensor in a folder, after what cannot be averaged has been refused."""
    with quantised_errors(name, config):
        stored = read_tensors(folder)
    refuse_quantised(name, config, {n: info for n, (info, _) in stored.items()})
    refuse_factors(stored, name)
    _refuse_absent(folder, stored, config, name)
    refuse_oversized(config, len(stored), name)
    return stored


def _verified(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint in a folder, after its files are known to be those of the Hub's snapshot."""
    if checkpoint.revision is not None and checkpoint.folder is not None:
        require_stated_hashes(checkpoint.folder, checkpoint.files, checkpoint.name)
    return checkpoint


def _weights(folder: Path) -> list[Path]:
    """All files that may hold weights, and the index."""
    return [path for path in folder.iterdir() if _may_hold_weights(path) and path.is_file()]


def _may_hold_weights(path: Path) -> bool:
    return path.suffix == ".safetensors" or path.name in INDEXES


def list_files(folder: Path, name: str) -> list[Path]:
    """The files of a folder.

    Raises:
        NotFoundError: No such folder.
        FormatError: Something that would be read is no file: a pipe, a device, a link to nowhere.
    """
    try:
        found, problem = sorted(folder.iterdir()), find_irregular(folder)
    except OSError as error:
        raise NotFoundError(f"no such folder: {error.strerror}", where=name) from error
    if problem:
        raise FormatError(problem, where=name, remedy="download or save it again")
    return found


def read_config(folder: Path) -> Config:
    """The parsed `config.json`, `{}` if there is none.

    Raises:
        FormatError: It is not a JSON object.
    """
    path = folder / "config.json"
    if not path.exists():
        return {}
    config = read_json(path, parse_config)
    refuse_unlike(config, str(path))
    named = config.get("architectures") or []
    if isinstance(named, str):
        named = config["architectures"] = [named]
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise FormatError(
            f"architectures is {brief(named)}; expected a list of class names", where=str(path)
        )
    return config


def _refuse_absent(folder: Path, stored: Collection[str], config: Config, name: str) -> None:
    """Refuse an index that names what no shard holds, unless no model needs that.

    Raises:
        FormatError: With the tensor, and where it should be.
    """
    if not (absent := absent_tensors(folder, stored)):
        return
    asked = schema_of(config)
    schema = asked.for_names({asked.canonical(tensor) for tensor in stored})
    for tensor, shard in sorted(absent.items()):
        loaded = schema.canonical(tensor)
        if loaded not in schema.ties and not schema.is_superfluous(loaded):
            raise FormatError(
                f"the index places {tensor!r} in {shard}, which does not hold it "
                f"({len(absent)} such tensors)",
                where=name,
                remedy="download the checkpoint again",
            )


def bend_prefix(number: int) -> str:
    """Prefix of the names of a bend's tensors; bends count from 0."""
    return f"bend.{number}."


def open_bend(path: Path, number: int, name: str) -> Checkpoint:
    """The tensors of a file whose names begin with a bend's prefix.

    Args:
        path: The safetensors file.
        number: Of the bend.
        name: What a report calls it.

    Raises:
        FormatError: The file is unsound.
    """
    stamps, begin = (Stamp.of(path),), bend_prefix(number)
    entries = {
        key.removeprefix(begin): entry
        for key, entry in read_header(path).items()
        if key.startswith(begin)
    }
    reader = FileReader(entries, stamps)
    reader.open(path)
    return Checkpoint(
        name=name,
        tensors=reader.tensors,
        read=reader.read,
        fingerprint=lambda: [file_digest(path), number],
        stamps=stamps,
    )
