"""`modules.json` and the folders that it names, as sentence-transformers writes them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mergekit_geo.errors import FormatError
from mergekit_geo.files.regular import read_bytes
from mergekit_geo.files.sound_json import brief, parse_json, read_json
from mergekit_geo.records.model import SENTENCE_LOADERS

MODULES = "modules.json"
ROUTES = ("router_config.json", "config.json")
"""Files in which a module names others, in folders of its own: of a Router, and of an Asym."""

SETTINGS = "config_sentence_transformers.json"
DEEPEST = 2
"""How many folders up from its backbone a model's own folder is at most."""

SAFE = ".safetensors"
SHARDS = f"{SAFE}.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
INDEX_FILE = re.compile(r"\.(?:safetensors|bin)\.index(?:\.[\w-]+)?\.json$")
"""An index of shards, in any format and of any variant."""

EXPORTS = (".onnx", ".onnx_data", ".gguf", ".h5", ".msgpack", ".tflite", ".xml", ".ot")
"""Suffixes of weights in formats that are neither read nor written."""


@dataclass(frozen=True)
class ModuleFolder:
    """A module of a sentence-transformers model.

    Attributes:
        index: Its place; modules in a module count, too.
        kind: Such as `Pooling`.
        path: Of its folder in the model's; empty where it is the model's own.
        files: What belongs to it there, relative to the model's folder; none where it is the
            model's own.
    """

    index: int
    kind: str
    path: str
    files: tuple[Path, ...]

    @property
    def is_apart(self) -> bool:
        """Whether it has a folder of its own."""
        return bool(self.path)

    @property
    def weights(self) -> tuple[Path, ...]:
        """The module's safetensors files."""
        return tuple(path for path in self.files if path.suffix == SAFE)

    @property
    def pickles(self) -> tuple[Path, ...]:
        """Files that may be pickled weights, which can run code."""
        return tuple(path for path in self.files if path.suffix in PICKLES)

    @property
    def settings(self) -> tuple[Path, ...]:
        """The module's configuration files."""
        return tuple(path for path in self.files if path.name.endswith("config.json"))

    @property
    def side_files(self) -> tuple[Path, ...]:
        """Files that are copied unchanged."""
        return tuple(path for path in self.files if not is_weights(path.name))


def at(place: str, file: str) -> str:
    """Path of a file in a folder of a model's, which is its own if empty.

    >>> at("0_Transformer", "config.json"), at("", "config.json")
    ('0_Transformer/config.json', 'config.json')
    """
    return f"{place}/{file}" if place else file


def files_in(names: Collection[str], place: str) -> set[str]:
    """Files in a folder of a model's, relative to it."""
    begin = at(place, "")
    return {name.removeprefix(begin) for name in names if name.startswith(begin)}


def is_weights(file: str) -> bool:
    """Whether a file's name is one of weights or of their index, in any format.

    >>> is_weights("pytorch_model.bin.index.json"), is_weights("config.json")
    (True, False)
    """
    return file.endswith((SAFE, *PICKLES, *EXPORTS)) or bool(INDEX_FILE.search(file))


def read_modules(folder: Path, listed: Collection[str] = ()) -> tuple[ModuleFolder, ...]:
    """The modules of a model, with those that they are made of; none without a `modules.json`.

    Args:
        folder: Of the model.
        listed: All that its repository holds, where only a part of that is here.

    Raises:
        FormatError: It is unsound, or names a folder outside the model's.
    """
    path = folder / MODULES
    if not path.is_file():
        return ()
    try:
        entries = parse_json(read_bytes(path).decode("utf-8"))
        found = [(str(entry["type"]), entry["path"]) for entry in entries]
        if not all(isinstance(place, str) for _, place in found):
            raise TypeError("a path is not a string")
    except (ValueError, LookupError, TypeError, OSError) as error:
        raise FormatError(f"not a sound {MODULES}: {error}", where=str(path)) from error
    places = [
        (kind.rpartition(".")[2], inside)
        for kind, place in found
        for kind, inside in _with_parts(folder, kind, folder_inside(place, path))
    ]
    return tuple(
        module_folder(folder, index, kind, inside, listed)
        for index, (kind, inside) in enumerate(places)
    )


def module_folder(
    folder: Path, index: int, kind: str, place: str, listed: Collection[str]
) -> ModuleFolder:
    """A module, with its files.

    Args:
        folder: Of the model.
        index: Its place among the modules.
        kind: Its class.
        place: Of its folder in the model's.
        listed: All that the model's repository holds, where only a part of that is here.
    """
    return ModuleFolder(index, kind, place, tuple(map(Path, _files(folder, place, listed))))


def backbone_of(folder: Path, listed: Collection[str] = ()) -> str:
    """The folder in a model's folder that holds the model itself; empty where that is its own.

    That is the first module with a configuration of transformers, or else the first with weights,
    where no module is in the model's own folder.

    Args:
        folder: Of the model.
        listed: All that its repository holds, where only a part of that is here.

    Raises:
        FormatError: `modules.json` is unsound.
    """
    modules = read_modules(folder, listed)
    if any(not module.is_apart and module.kind not in ROUTERS for module in modules):
        return ""
    apart = [module for module in modules if module.is_apart]
    models = (module.path for module in apart if _is_model(folder / module.path))
    return next(models, next((module.path for module in apart if module.weights), ""))


def model_folder(folder: Path) -> Path:
    """The folder of the whole model, for that of its backbone; itself where it is no backbone.

    Args:
        folder: With the configuration and weights of a model of transformers.
    """
    for above in (folder, *list(folder.absolute().parents)[:DEEPEST]):
        if (above / MODULES).is_file():
            inside = "" if above == folder else folder.absolute().relative_to(above).as_posix()
            return above if inside == backbone_of(above) else folder
    return folder


def loader_in(folder: Path | None) -> str | None:
    """Class of sentence-transformers that loads a folder; None where it has no modules."""
    if folder is None or not (folder / MODULES).is_file():
        return None
    settings = folder / SETTINGS
    found = read_json(settings).get("model_type") if settings.is_file() else None
    return found if found in SENTENCE_LOADERS else SENTENCE_LOADERS[0]


def weight_folders(folder: Path | None, backbone: str = "") -> list[Path]:
    """The folders of modules that hold weights, relative to the model's, without its own.

    Args:
        folder: Of the model; None for one in memory.
        backbone: The folder in it that holds the model itself.
    """
    modules = () if folder is None else read_modules(folder)
    return sorted({Path(m.path) for m in modules if m.weights and m.path != backbone})


ROUTERS = ("Router", "Asym")
"""Kinds of modules that are made of others."""


def _is_model(folder: Path) -> bool:
    path = folder / "config.json"
    return path.is_file() and "model_type" in read_json(path)


def _with_parts(folder: Path, kind: str, place: str) -> Iterator[tuple[str, str]]:
    """A module, then those that it is made of, route by route: kind and folder of each."""
    yield kind, place
    for name in ROUTES if kind.endswith(ROUTERS) else ():
        path = folder / place / name
        for part, named in _parts(read_json(path) if path.is_file() else {}).items():
            below = folder_inside(at(place, part), path)
            if below != place:
                yield from _with_parts(folder, named, below)


def _parts(settings: Mapping[str, Any]) -> dict[str, str]:
    """Folders and types of a Router's modules, in the order of its routes.

    Their folders may be called by numbers that are different each time a model is saved.

    >>> _parts({"types": {"9": "D", "7": "Q"}, "structure": {"query": ["7"], "doc": ["9"]}})
    {'9': 'D', '7': 'Q'}
    """
    types, routes = settings.get("types"), _routes(settings)
    if not isinstance(types, Mapping):
        return {}
    named = [part for route in sorted(routes) for part in routes[route] if part in types]
    return {part: str(types[part]) for part in dict.fromkeys([*named, *types])}


def _routes(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """Folders of the modules along each route."""
    found = settings.get("structure")
    stated = found.items() if isinstance(found, Mapping) else ()
    return {route: list(map(str, parts)) for route, parts in stated if isinstance(parts, list)}


def route_kinds(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """Kinds of the modules along each route of a Router.

    >>> route_kinds({"types": {"7": "models.Dense"}, "structure": {"query": ["7"]}})
    {'query': ['Dense']}
    """
    kinds = {part: kind.rpartition(".")[2] for part, kind in _parts(settings).items()}
    return {
        route: [kinds.get(part, part) for part in parts]
        for route, parts in _routes(settings).items()
    }


def folder_inside(place: str, path: Path) -> str:
    """A folder that a file names in its own; empty for that itself.

    Raises:
        FormatError: It lies outside.
    """
    parts = PurePosixPath(place)
    if parts.is_absolute() or ".." in parts.parts or "\\" in place or "\0" in place:
        raise FormatError(
            f"it names {brief(place)}, a path outside the model's folder",
            where=str(path),
            remedy="do not use this checkpoint: it may be hostile",
        )
    return "" if str(parts) == "." else str(parts)


def _files(folder: Path, inside: str, listed: Collection[str]) -> list[str]:
    """What belongs to a module's own folder, links to folders not followed."""
    if not inside or listed:
        return files_of_module(inside, listed) if inside else []
    found = (path for path in (folder / inside).rglob("*") if path.is_file())
    return files_of_module(inside, [path.relative_to(folder).as_posix() for path in found])


def files_of_module(place: str, files: Collection[str]) -> list[str]:
    """The files of a module: those in its folder, and in folders there that hold no weights.

    Args:
        place: Of its folder, relative to the model's.
        files: Of the model's folder or repository, relative to it.

    Example:
        >>> files_of_module("0_X", ["0_X/config.json", "0_X/onnx/a.onnx", "0_X/onnx/b.json"])
        ['0_X/config.json']
    """
    own = sorted(file for file in files if file.startswith(f"{place}/"))
    folders = {file: file.removeprefix(f"{place}/").rpartition("/")[0] for file in own}
    other = {below.split("/")[0] for file, below in folders.items() if below and is_weights(file)}
    return [file for file in own if folders[file].split("/")[0] not in other]
