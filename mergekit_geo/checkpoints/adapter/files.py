"""The files of a LoRA adapter: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Protocol

from mergekit_geo.checkpoints.adapter.settings import (
    ADAPTER_CONFIG,
    LoraSettings,
    read_settings,
)
from mergekit_geo.checkpoints.checkpoint import file_fingerprint, list_files
from mergekit_geo.checkpoints.header import ITEM_BYTES, TensorInfo, read_header
from mergekit_geo.checkpoints.index import INDEX, SINGLE
from mergekit_geo.checkpoints.reading import Bytes, read_into
from mergekit_geo.checkpoints.stated_hash import require_stated_hashes
from mergekit_geo.checkpoints.unchanged import stamps_in
from mergekit_geo.errors import FormatError, UnsupportedError

ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"


class Adapter(Protocol):
    """An adapter's own tensors, without its base."""

    @property
    def name(self) -> str:
        """Name as the user gave it."""

    @property
    def revision(self) -> str | None:
        """Commit on the Hub; None if it comes from elsewhere."""

    @property
    def folder(self) -> Path:
        """Folder of its configuration."""

    @property
    def settings(self) -> LoraSettings:
        """Settings from its configuration."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every tensor's dtype and shape, by its name in the file."""

    @property
    def is_local(self) -> bool:
        """Whether its data can be read without a download."""

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        """Put elements `start` to `stop` of the flattened tensor into `out`, as they are stored."""

    def fingerprint(self) -> object:
        """A JSON value that changes when the adapter does."""

    def fetch(self) -> Adapter:
        """Download what is missing, and return the adapter over it."""


class AdapterFolder:
    """An adapter in a folder.

    Args:
        folder: As peft's `save_pretrained` writes it.
        name: What the user calls it; the folder's path by default.
        revision: Commit of the Hub that the folder is a snapshot of.

    Attributes:
        stamps: Of the files that are read or copied, as they were before anything was read.

    Raises:
        NotFoundError: No such folder.
        UnsupportedError: Pickled, or of a kind that is refused.
        FormatError: The files contradict themselves.
    """

    is_local = True

    def __init__(self, folder: Path, name: str | None = None, revision: str | None = None) -> None:
        self.folder, self.name, self.revision = folder, name or str(folder), revision
        refuse_unreadable_adapter(self.name, {p.name for p in list_files(folder, self.name)})
        self.path = folder / ADAPTER_WEIGHTS
        self.stamps = stamps_in(folder, folder / ADAPTER_CONFIG, self.path)
        self.settings = read_settings(folder / ADAPTER_CONFIG, self.name)
        self._entries = read_header(self.path)
        self.tensors: Mapping[str, TensorInfo] = {n: e[0] for n, e in self._entries.items()}
        self._stamp = next(stamp for stamp in self.stamps if stamp.path == self.path)
        self._file = self._stamp.open()

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        """Put elements `start` to `stop` of the flattened tensor into `out`, as they are stored."""
        info, place = self._entries[name]
        size = ITEM_BYTES[info.dtype]
        read_into(self._file, place.offset + start * size, out[: (stop - start) * size])

    def fingerprint(self) -> object:
        """Identity of the weights' file, and SHA-256 of the configuration."""
        config = hashlib.sha256((self.folder / ADAPTER_CONFIG).read_bytes()).hexdigest()
        return [file_fingerprint(self._stamp), config]

    def fetch(self) -> AdapterFolder:
        """Return this object: its data needs no download.

        Raises:
            HubError: It is a snapshot of the Hub, and the file is not what the Hub states.
        """
        if self.revision is not None:
            require_stated_hashes(self.folder, [ADAPTER_WEIGHTS], self.name)
        return self


def is_adapter(files: Set[str], name: str) -> bool:
    """Whether a folder or repository with these files is an adapter.

    Raises:
        UnsupportedError: It is one, and a whole model as well.
    """
    if ADAPTER_CONFIG not in files:
        return False
    if whole := sorted(files & {SINGLE, INDEX}):
        raise UnsupportedError(
            f"it holds a whole model ({whole[0]}) and an adapter ({ADAPTER_CONFIG}): "
            "which of them is meant cannot be told",
            where=name,
            remedy="put the two into folders of their own, and name one",
        )
    return True


def refuse_unreadable_adapter(name: str, files: Set[str]) -> None:
    """Refuse a list of files that holds no adapter in safetensors.

    Raises:
        UnsupportedError: The weights are pickled.
        FormatError: There are no weights, or no configuration.
    """
    if ADAPTER_CONFIG not in files:
        raise FormatError(f"no {ADAPTER_CONFIG}: this is no adapter", where=name)
    if ADAPTER_WEIGHTS in files:
        return
    if PICKLED in files:
        raise UnsupportedError(
            f"the adapter is pickled ({PICKLED}), and a pickle can run any code when loaded; "
            f"expected {ADAPTER_WEIGHTS}",
            where=name,
            remedy=f"convert it if you trust it: {conversion_command(name)}",
        )
    raise FormatError(
        f"an adapter without {ADAPTER_WEIGHTS}",
        where=name,
        remedy="save it again with peft's save_pretrained",
    )


def conversion_command(name: str) -> str:
    """The command that turns a pickled adapter into a safetensors one."""
    repo, _, revision = name.partition("@")
    folder, download = name, ""
    if not Path(name).is_dir():
        folder = Path(repo).name
        at = ["--revision", revision] if revision else []
        download = shlex.join(["hf", "download", repo, *at, "--local-dir", folder]) + " && "
    code = (
        "import sys, torch; from safetensors.torch import save_file; d = sys.argv[1]; "
        "save_file({n: t.clone() for n, t in "
        f"torch.load(d + '/{PICKLED}', weights_only=True).items()}}, d + '/{ADAPTER_WEIGHTS}')"
    )
    return f'{download}python -c "{code}" {shlex.quote(folder)}'
