"""The files of a LoRA adapter: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from mergekit_geo.checkpoints.adapter.settings import ADAPTER_CONFIG, LoraSettings, read_settings
from mergekit_geo.checkpoints.folder import list_files
from mergekit_geo.checkpoints.header import TensorInfo, read_header
from mergekit_geo.checkpoints.index import INDEX, SINGLE
from mergekit_geo.checkpoints.reading import FileReader, Read
from mergekit_geo.checkpoints.stated_hash import require_stated_hashes
from mergekit_geo.checkpoints.unchanged import Stamp, stamps_in
from mergekit_geo.errors import FormatError, UnsupportedError
from mergekit_geo.files.hub_id import HubId

ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"


def _itself(adapter: Adapter) -> Adapter:
    return adapter


@dataclass(frozen=True, eq=False, repr=False)
class Adapter:
    """An adapter's own tensors, without its base.

    Attributes:
        name: As the user gave it.
        folder: Of its configuration.
        settings: From its configuration.
        tensors: Every tensor's dtype and shape, by its name in the file.
        read: Puts elements `start` to `stop` of a flattened tensor into a buffer, as stored.
        fingerprint: A JSON value that changes when the adapter does.
        revision: Commit on the Hub; None if it comes from elsewhere.
        stamps: Of the files that are read or copied, as they were before anything was read.
        is_local: Whether its data can be read without a download.
        fetched: Makes the one whose data is local.
    """

    name: str
    folder: Path
    settings: LoraSettings
    tensors: Mapping[str, TensorInfo]
    read: Read
    fingerprint: Callable[[], object]
    revision: str | None = None
    stamps: tuple[Stamp, ...] = ()
    is_local: bool = True
    fetched: Callable[[Adapter], Adapter] = _itself

    def fetch(self) -> Adapter:
        """Download what is not local yet, and return the adapter over it.

        Raises:
            HubError: A download failed, or a file is not what the Hub states.
        """
        return self.fetched(self)


def open_adapter(folder: Path, name: str | None = None, revision: str | None = None) -> Adapter:
    """An adapter in a folder.

    Args:
        folder: As peft's `save_pretrained` writes it.
        name: What the user calls it; the folder's path by default.
        revision: Commit of the Hub that the folder is a snapshot of.

    Raises:
        NotFoundError: No such folder.
        UnsupportedError: Pickled, or of a kind that is refused.
        FormatError: The files contradict themselves.
    """
    name = name or str(folder)
    refuse_unreadable_adapter(name, {path.name for path in list_files(folder, name)})
    config, path = folder / ADAPTER_CONFIG, folder / ADAPTER_WEIGHTS
    stamps = stamps_in(folder, config, path)
    settings = read_settings(config, name)
    reader = FileReader(read_header(path), stamps)
    reader.open(path)

    def fingerprint() -> object:
        return [*reader.fingerprint(), hashlib.sha256(config.read_bytes()).hexdigest()]

    return Adapter(
        name=name,
        folder=folder,
        settings=settings,
        tensors=reader.tensors,
        read=reader.read,
        fingerprint=fingerprint,
        revision=revision,
        stamps=stamps,
        fetched=_verified,
    )


def _verified(adapter: Adapter) -> Adapter:
    """An adapter in a folder, after its file is known to be that of the Hub's snapshot."""
    if adapter.revision is not None:
        require_stated_hashes(adapter.folder, [ADAPTER_WEIGHTS], adapter.name)
    return adapter


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
    folder, download = name, ""
    if not Path(name).is_dir() and (place := HubId.parse(name)):
        home = Path(place.repo).name
        at = ["--revision", place.revision] if place.revision else []
        at += ["--include", place.file("*")] if place.subfolder else []
        download = shlex.join(["hf", "download", place.repo, *at, "--local-dir", home]) + " && "
        folder = f"{home}/{place.subfolder}".rstrip("/")
    code = (
        "import sys, torch; from safetensors.torch import save_file; d = sys.argv[1]; "
        "save_file({n: t.clone() for n, t in "
        f"torch.load(d + '/{PICKLED}', weights_only=True).items()}}, d + '/{ADAPTER_WEIGHTS}')"
    )
    return f'{download}python -c "{code}" {shlex.quote(folder)}'
