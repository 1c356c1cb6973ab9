"""A checkpoint in a folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.configuration import parse_config, refuse_oversized, refuse_unlike
from mergekit_geo.checkpoints.header import Entries, TensorInfo
from mergekit_geo.checkpoints.index import INDEX, INDEXES, SINGLE, absent_tensors, read_tensors
from mergekit_geo.checkpoints.naming import schema_of
from mergekit_geo.checkpoints.pipeline import refuse_pipeline
from mergekit_geo.checkpoints.reading import FileReader
from mergekit_geo.checkpoints.stated_hash import require_stated_hashes
from mergekit_geo.checkpoints.unchanged import stamps_in
from mergekit_geo.checkpoints.wrappers import note, refuse_factors, unwrapped
from mergekit_geo.errors import FormatError, NotFoundError, UnsupportedError
from mergekit_geo.files.regular import find_irregular
from mergekit_geo.files.sound_json import brief, read_json
from mergekit_geo.records.model import License

SCALE = re.compile(r"weight_scale|scale_inv|absmax|zero_?point|quant_|\.scales$|SCB$")
"""Part of the names of tensors that accompany quantised weights, such as scales."""

FEW = 6
_RESAVE = "load it with from_tf or from_flax of transformers 4, and save it with save_pretrained"
OTHER_FORMATS = {
    ".gguf": "use the model that it was made from; convert after merging",
    ".h5": _RESAVE, ".msgpack": _RESAVE, ".onnx": "use the model that it was exported from",
}  # fmt: skip
"""Suffixes of weights that are not read, and what to do about them."""


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
        stated: Its licence, where the Hub has told it; that of the folder's card if None.
        listed: All that its repository holds, where only a part of that is here.

    Raises:
        NotFoundError: No such folder.
        UnsupportedError: Pickled or quantised weights, or an adapter.
        FormatError: The files contradict themselves.
    """
    name = name or str(folder)
    names = {path.name for path in list_files(folder, name)}
    below = {path.relative_to(folder).as_posix() for path in folder.glob("*/*.safetensors")}
    refuse_unreadable(name, names | below)
    before, config = stamps_in(folder, *_weights(folder)), read_config(folder)
    stored = _sound_tensors(folder, config, name)
    entries = unwrapped(stored, config, name)
    used = {place.path for _, place in entries.values()}
    unused = {*_weights(folder)} - used
    stamps = tuple(stamp for stamp in before if stamp.path not in unused)
    reader = FileReader(entries, stamps)
    return Checkpoint(
        name=name,
        tensors=reader.tensors,
        read=reader.read,
        fingerprint=reader.fingerprint,
        config=config,
        folder=folder,
        revision=revision,
        stamps=stamps,
        fetched=_verified,
        files=tuple(sorted(path.name for path in used)),
        listed=listed,
        license=stated,
        renamed=note(stored, entries, name),
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
