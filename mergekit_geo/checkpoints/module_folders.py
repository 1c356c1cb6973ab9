"""`modules.json` and the folders that it names, as sentence-transformers writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mergekit_geo.errors import FormatError
from mergekit_geo.files.regular import read_bytes
from mergekit_geo.files.sound_json import brief, parse_json

MODULES = "modules.json"
SAFE = ".safetensors"
SHARDS = f"{SAFE}.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True)
class ModuleFolder:
    """A module of a sentence-transformers model.

    Attributes:
        index: Its place.
        kind: Such as `Pooling`.
        path: Of its folder in the model's; empty where it is the model's own.
        files: All that it holds, relative to the model's folder; none where it is the model's own.
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
        return tuple(p for p in self.files if not p.name.endswith((SAFE, SHARDS, *PICKLES)))


def read_modules(folder: Path) -> tuple[ModuleFolder, ...]:
    """The modules of a model; none where it has no `modules.json`.

    Raises:
        FormatError: It is unsound, or names a folder outside the model's.
    """
    path = folder / MODULES
    if not path.is_file():
        return ()
    try:
        entries = parse_json(read_bytes(path).decode("utf-8"))
        found = [(str(entry["type"]).rpartition(".")[2], entry["path"]) for entry in entries]
        if not all(isinstance(place, str) for _, place in found):
            raise TypeError("a path is not a string")
    except (ValueError, LookupError, TypeError, OSError) as error:
        raise FormatError(f"not a sound {MODULES}: {error}", where=str(path)) from error
    return tuple(
        ModuleFolder(index, kind, _inside(place, path), _files(path.parent, place))
        for index, (kind, place) in enumerate(found)
    )


def _inside(place: str, path: Path) -> str:
    parts = PurePosixPath(place)
    if parts.is_absolute() or ".." in parts.parts or "\\" in place or "\0" in place:
        raise FormatError(
            f"it names {brief(place)}, a path outside the model's folder",
            where=str(path),
            remedy="do not use this checkpoint: it may be hostile",
        )
    return "" if str(parts) == "." else str(parts)


def _files(folder: Path, place: str) -> tuple[Path, ...]:
    """All in a module's own folder, links to folders not followed."""
    inside = _inside(place, folder / MODULES)
    if not inside:
        return ()
    found = (path for path in (folder / inside).rglob("*") if path.is_file())
    return tuple(sorted(path.relative_to(folder) for path in found))
