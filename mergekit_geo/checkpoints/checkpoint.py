"""What a checkpoint is to the rest of the library, and the one that lies in a folder."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn, Protocol, runtime_checkable

from mergekit_geo.checkpoints.adapter.factors import refuse_factors
from mergekit_geo.checkpoints.configuration import parse_config, refuse_oversized, refuse_unlike
from mergekit_geo.checkpoints.header import ITEM_BYTES, TensorInfo
from mergekit_geo.checkpoints.index import INDEX, INDEXES, SINGLE, absent_tensors, read_tensors
from mergekit_geo.checkpoints.pipeline import refuse_pipeline
from mergekit_geo.checkpoints.reading import Bytes, read_into
from mergekit_geo.checkpoints.stated_hash import require_stated_hashes
from mergekit_geo.checkpoints.stated_license import license_in
from mergekit_geo.checkpoints.unchanged import Stamp, stamps_in
from mergekit_geo.checkpoints.wrappers import note, unwrapped
from mergekit_geo.errors import FormatError, NotFoundError, UnsupportedError
from mergekit_geo.files.regular import find_irregular
from mergekit_geo.files.sound_json import brief, read_json
from mergekit_geo.records.model import License

Config = dict[str, Any]

SCALE = re.compile(r"weight_scale|scale_inv|absmax|zero_?point|quant_|\.scales$|SCB$")
"""Part of the names of tensors that accompany quantised weights, such as scales."""

FEW = 6
_RESAVE = "load it with from_tf or from_flax of transformers 4, and save it with save_pretrained"
OTHER_FORMATS = {
    ".gguf": "use the model that it was made from; convert after merging",
    ".h5": _RESAVE, ".msgpack": _RESAVE, ".onnx": "use the model that it was exported from",
}  # fmt: skip
"""Suffixes of weights that are not read, and what to do about them."""


@runtime_checkable
class Checkpoint(Protocol):
    """Named tensors that can be read a chunk at a time."""

    @property
    def name(self) -> str:
        """Name as the user gave it."""

    @property
    def revision(self) -> str | None:
        """Commit on the Hub; None if it comes from elsewhere."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every tensor's dtype and shape."""

    @property
    def config(self) -> Config:
        """The parsed `config.json`; empty where there is none."""

    @property
    def folder(self) -> Path | None:
        """Where config and tokenizer files lie; None for one in memory."""

    @property
    def ties(self) -> Mapping[str, str]:
        """Names in memory that share another name's tensor, and that name."""

    @property
    def is_local(self) -> bool:
        """Whether its data can be read without a download."""

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        """Put elements `start` to `stop` of the flattened tensor into `out`, as they are stored."""

    def fingerprint(self) -> object:
        """A JSON value that changes when the weights do (without reading them all)."""

    def fetch(self) -> Checkpoint:
        """Download what is not here yet, and return the checkpoint over it."""


class FolderCheckpoint:
    """A checkpoint in a folder: safetensors files, read by position.

    Args:
        folder: Holds `config.json` and the weights.
        name: What the user calls it; the folder's path by default.
        revision: Commit of the Hub that the folder is a snapshot of.
        stated: Its licence, where the Hub has told it; that of the folder's card if None.
        listed: All that its repository holds, where only a part of that is here.

    Raises:
        NotFoundError: No such folder.
        UnsupportedError: Pickled or quantised weights, or an adapter.
        FormatError: The files contradict themselves.

    Attributes:
        renamed: How tensors are called here, where that is not how they are stored; empty if it is.
        stamps: Of the files that are read or copied, as they were before anything was read.
    """

    is_local = True
    ties: Mapping[str, str] = {}

    def __init__(
        self,
        folder: Path,
        name: str | None = None,
        revision: str | None = None,
        stated: License | None = None,
        listed: frozenset[str] = frozenset(),
    ) -> None:
        self.folder: Path | None = folder
        self.listed = listed
        self._stated = stated
        self.name, self.revision = name or str(folder), revision
        names = {path.name for path in list_files(folder, self.name)}
        below = {path.relative_to(folder).as_posix() for path in folder.glob("*/*.safetensors")}
        refuse_unreadable(self.name, names | below)
        before = stamps_in(folder, *_weights(folder))
        self.config = read_config(folder)
        with quantised_errors(self.name, self.config):
            stored = read_tensors(folder)
        refuse_quantised(self.name, self.config, {n: info for n, (info, _) in stored.items()})
        refuse_factors(stored, self.name)
        _refuse_absent(folder, stored, self.config, self.name)
        refuse_oversized(self.config, len(stored), self.name)
        self._entries = unwrapped(stored, self.config, self.name)
        self.renamed = note(stored, self._entries, self.name)
        unused = {*_weights(folder)} - {place.path for _, place in self._entries.values()}
        self.stamps = tuple(stamp for stamp in before if stamp.path not in unused)
        self.tensors: Mapping[str, TensorInfo] = {n: e[0] for n, e in self._entries.items()}
        self._files: dict[Path, FileIO] = {}
        self._opening = Lock()

    @cached_property
    def license(self) -> License | None:
        """License that its model card states."""
        return self._stated or (license_in(self.folder) if self.folder else None)

    @property
    def files(self) -> list[str]:
        """Names of the files that hold its tensors."""
        return sorted({place.path.name for _, place in self._entries.values()})

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        """Put elements `start` to `stop` of the flattened tensor into `out`, as they are stored."""
        info, place = self._entries[name]
        size = ITEM_BYTES[info.dtype]
        position = place.offset + start * size
        read_into(self._file(place.path), position, out[: (stop - start) * size])

    def fingerprint(self) -> object:
        """Path, size, times of change and header hash of each file."""
        paths = sorted({place.path for _, place in self._entries.values()})
        return [file_fingerprint(self._stamp(path)) for path in paths]

    def fetch(self) -> FolderCheckpoint:
        """Return this object: its data needs no download.

        Raises:
            HubError: It is a snapshot of the Hub, and a file is not what the Hub states.
        """
        if self.revision is not None and self.folder is not None:
            require_stated_hashes(self.folder, self.files, self.name)
        return self

    def _file(self, path: Path) -> FileIO:
        with self._opening:
            if path not in self._files:
                self._files[path] = self._stamp(path).open()
            return self._files[path]

    def _stamp(self, path: Path) -> Stamp:
        return next(stamp for stamp in self.stamps if stamp.path == path)


def _weights(folder: Path) -> list[Path]:
    """All files that may hold weights, and the index."""
    indexes = [folder / name for name in INDEXES]
    return [path for path in (*folder.glob("*.safetensors"), *indexes) if path.is_file()]


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


def refuse_unreadable(name: str, files: set[str]) -> None:
    """Refuse a file list that holds no safetensors weights of one model.

    Raises:
        UnsupportedError: The weights are pickled, an adapter without its base, or a pipeline.
        FormatError: There are no weights at all.
    """
    refuse_pipeline(name, files)
    if "adapter_config.json" in files and not files & {SINGLE, INDEX}:
        raise UnsupportedError(
            "this is an adapter, not a whole model",
            where=name,
            remedy=f"name its base as well: BASE+{name}",
        )
    here = sorted(file for file in files if "/" not in file)
    if any(file.endswith(".safetensors") or file in INDEXES for file in here):
        return
    if pickled := [f for f in here if f.endswith((".bin", ".pt", ".pth", ".ckpt"))]:
        raise UnsupportedError(
            f"the weights are pickled ({pickled[0]}), and a pickle can run any code when loaded; "
            "expected safetensors",
            where=name,
            remedy=f"convert it if you trust it: {conversion_command(name)}",
        )
    _refuse_without_weights(name, here, sorted(files))


def _refuse_without_weights(name: str, here: list[str], files: list[str]) -> NoReturn:
    """Refuse a folder without weights, naming what it holds instead."""
    below = sorted({f.rpartition("/")[0] for f in files if f.endswith(".safetensors")})
    if below:
        place = name if Path(name).is_dir() else "its copy (`hf download`)"
        raise FormatError(
            f"no safetensors file in it; some are in {', '.join(below[:FEW])}",
            where=name,
            remedy=f"name the folder of one: {below[0]} in {place}",
        )
    other = next((f for f in here if f.endswith(tuple(OTHER_FORMATS))), None)
    if other is not None:
        raise UnsupportedError(
            f"no safetensors file in it; {other} is of another format, which is not read",
            where=name,
            remedy=OTHER_FORMATS[Path(other).suffix],
        )
    raise FormatError(
        "no safetensors file in it",
        where=name,
        remedy=f"expected {SINGLE} or {INDEX}; of an adapter, adapter_config.json and "
        "adapter_model.safetensors",
    )


def conversion_command(name: str) -> str:
    """The command that turns a pickled checkpoint into a safetensors one."""
    source, _, revision = (name, "", "") if Path(name).is_dir() else name.partition("@")
    target = f"{Path(source).name}-safetensors"
    code = (
        "import sys, transformers as t; s, d, *r = sys.argv[1:]; k = {'revision': r[0]} if r else "
        "{}; c = t.AutoConfig.from_pretrained(s, **k); "
        "getattr(t, c.architectures[0]).from_pretrained(s, use_safetensors=False, **k)"
        ".save_pretrained(d); t.AutoTokenizer.from_pretrained(s, **k).save_pretrained(d)"
    )
    return f'python -c "{code}" {shlex.join(filter(None, [source, target, revision]))}'


def refuse_quantised(name: str, config: Config, tensors: Mapping[str, TensorInfo]) -> None:
    """Refuse a configuration of packed weights.

    Raises:
        UnsupportedError: `quantization_config` is set.
    """
    if not (method := _quantised_by(config)):
        return
    if any(not info.is_float or SCALE.search(tensor) for tensor, info in tensors.items()):
        raise _packed(name, method)
    dtypes = ", ".join(sorted({info.dtype for info in tensors.values()}))
    raise UnsupportedError(
        f"config.json says that the weights are quantised ({method}), and they are stored as "
        f"plain {dtypes}",
        where=name,
        remedy="take quantization_config out of its config.json to merge them as they are",
    )


@contextmanager
def quantised_errors(name: str, config: Config) -> Iterator[None]:
    """Report unreadable tensors as quantised, where the configuration says so.

    Raises:
        UnsupportedError: In the place of a FormatError.
    """
    try:
        yield
    except FormatError as error:
        if method := _quantised_by(config):
            raise _packed(name, method) from error
        raise


def _quantised_by(config: Config) -> str:
    """The method that a configuration names; empty where it names none."""
    parts = (config, *(value for value in config.values() if isinstance(value, dict)))
    found = next((p["quantization_config"] for p in parts if p.get("quantization_config")), None)
    if found is None:
        return ""
    return str(found.get("quant_method", "unknown")) if isinstance(found, dict) else "unknown"


def _packed(name: str, method: str) -> UnsupportedError:
    return UnsupportedError(
        f"the weights are quantised ({method}), and packed integers cannot be averaged",
        where=name,
        remedy="use the unquantised model; quantise after merging",
    )


def _refuse_absent(folder: Path, stored: Collection[str], config: Config, name: str) -> None:
    """Refuse an index that names what no shard holds, unless no model needs that.

    Raises:
        FormatError: With the tensor, and where it should be.
    """
    if not (absent := absent_tensors(folder, stored)):
        return
    from mergekit_geo.checkpoints.naming import schema_of

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


def file_fingerprint(stamp: Stamp) -> list[object]:
    """A safetensors file's path, size, times of change, and a hash of its header.

    A program can set the time at which content was changed; it cannot set the other.

    Raises:
        ChangedError: It is not the file that was opened.
    """
    with stamp.open() as file:
        length = int.from_bytes(file.read(8), "little")
        digest = hashlib.sha256(file.read(length)).hexdigest()
        times = [stamp.mtime_ns, os.fstat(file.fileno()).st_ctime_ns]
    return [str(stamp.path.resolve()), stamp.size, *times, digest]
