"""What a checkpoint's folder holds, in one hash: whoever wrote it, and whenever."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.components import read_components
from mergekit_geo.checkpoints.module_folders import MODULES, model_folder
from mergekit_geo.checkpoints.side_files import module_files
from mergekit_geo.checkpoints.sources import parts_of
from mergekit_geo.files.regular import file_digest

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.adapter.files import Adapter

WEIGHTS = ".safetensors"
MOST_READ = 1 << 28
"""Most bytes of a side file that is hashed by its content."""

NOT_LOADED = (
    WEIGHTS, ".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".onnx", ".onnx_data",
    ".gguf", ".tflite", ".npz", ".md", ".html", ".png", ".jpg", ".svg", ".log", ".new", ".lock",
)  # fmt: skip
"""Suffixes of weights, which are hashed apart, and of files that are never loaded."""

EXAMPLES = "examples.jsonl"
"""Examples that a merge does worse or better than its parents."""

OURS = (
    "report.json", "merge.json", "finetune.json", "escape.json", "path.json", "journal.jsonl",
    "member.json", "layer_weights.json", EXAMPLES,
)  # fmt: skip
"""Files in which an output records how it was made."""

TEMPLATES = "additional_chat_templates"


def content_digest(folder: Path) -> str:
    """SHA-256 over weights and all that is loaded beside them; about a second for 1.5 GB.

    Args:
        folder: Of a checkpoint, or of an adapter.
    """
    inside = [folder / path for one in read_components(folder) for path in one.weights]
    return _digest([*folder.glob(f"*{WEIGHTS}"), *inside, *_loaded(folder)], folder)


def loaded_files(folder: Path) -> str:
    """SHA-256 over what is loaded beside the weights.

    Configuration, tokenizer, chat templates, processors and code, whatever they are called: a model
    is not the same with others.

    Args:
        folder: Of a checkpoint, or of an adapter.
    """
    return _digest(_loaded(folder), folder)


def _loaded(folder: Path) -> list[Path]:
    beside = [*folder.glob("*"), *folder.glob(f"{TEMPLATES}/*"), *folder.glob("*/*.py")]
    inside = [folder / path for one in read_components(folder) for path in one.side_files]
    return [*(path for path in [*beside, *inside] if _is_loaded(path)), *_of_modules(folder)]


def _of_modules(folder: Path) -> list[Path]:
    """What sentence-transformers modules after a model are loaded from, weights included."""
    root = model_folder(folder)
    files = module_files(root) if (root / MODULES).is_file() else []
    return [root / path for path in files if (root / path).parent != folder]


def _is_loaded(path: Path) -> bool:
    aside = path.suffix.lower() in NOT_LOADED or path.name in OURS or path.name.startswith(".")
    return not aside and path.is_file()


def _digest(paths: Iterable[Path], folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(set(paths)):
        total.update(os.fsencode(os.path.relpath(path, folder)) + b"\0" + _digest_of(path))
    return total.hexdigest()


def _digest_of(path: Path) -> bytes:
    status = path.stat()
    try:
        if path.suffix == WEIGHTS or status.st_size <= MOST_READ:
            return bytes.fromhex(file_digest(path))
    except PermissionError:
        pass
    return repr((status.st_size, status.st_mtime_ns, status.st_ctime_ns)).encode()


def checkpoint_digest(checkpoint: Checkpoint) -> str:
    """Digest of a checkpoint's folder or file, and its adapter's; empty for one in memory."""
    digests = [_digest_of_part(part) for part in parts_of(checkpoint)]
    if not all(digests):
        return ""
    joined = "".join(digests)
    return joined if len(digests) == 1 else hashlib.sha256(joined.encode()).hexdigest()


def _digest_of_part(part: Checkpoint | Adapter) -> str:
    """Digest of a folder or a single file; empty for tensors in memory."""
    if part.folder is not None:
        return content_digest(part.folder)
    files = [stamp.path for stamp in part.stamps]
    return _digest(files, files[0].parent) if files else ""


def model_key(checkpoint: Checkpoint) -> list[object]:
    """A key that changes when a checkpoint's weights do, or a file beside them that is loaded."""
    folders = [part.folder for part in parts_of(checkpoint)]
    return [checkpoint.fingerprint(), [folder and loaded_files(folder) for folder in folders]]
