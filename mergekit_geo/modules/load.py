"""Loading a checkpoint into the class that its configuration names, and nothing less."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psutil
import torch
from huggingface_hub import constants
from torch import Tensor
from transformers.utils import logging as transformers_logging

from mergekit_geo.checkpoints import loading
from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.checkpoints.headless import unused_in
from mergekit_geo.config.measures import Compute
from mergekit_geo.errors import DataError, FormatError
from mergekit_geo.modules.beside import keep_beside, stored_beside
from mergekit_geo.modules.staging import stage
from mergekit_geo.printable import in_gigabytes
from mergekit_geo.processes import local_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase  # seconds to load

ModelSource = Path | tuple[Config, Mapping[str, Tensor]]


def load_tokenizer(folder: Path, compute: Compute) -> PreTrainedTokenizerBase | None:
    """The tokenizer in a checkpoint's folder, None where there is none.

    Raises:
        UnsupportedError: It comes with code of its own, which is not trusted.
        FormatError: transformers cannot load it.
    """
    if not any(folder.glob("tokenizer*")) and not any(folder.glob("vocab*")):
        return None
    return loading.load_tokenizer(folder, trusted=compute.trust_remote_code)


def load_model(source: ModelSource, compute: Compute, code: Path | None = None) -> PreTrainedModel:
    """A model in evaluation mode.

    Args:
        source: A checkpoint's folder, or a configuration and the stored tensors by name.
        compute: Device and dtype. More than one accelerator is used where one is too small.
        code: Folder with the code of a model in memory, run if it is trusted.

    Raises:
        UnsupportedError: It comes with code of its own, which is not trusted.
        FormatError: The checkpoint lacks weights of its architecture: transformers would fill the
            gaps at random and say nothing.
        DataError: It does not fit into memory.
    """
    device = local_device(compute.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device == "cpu":
        _check_memory(source, compute)
    placement: dict[str, Any] = {"device_map": "auto"} if device == "cuda" else {}
    options = {"dtype": _dtype(compute, device), "output_loading_info": True, **placement}
    with quiet_transformers():
        model, info = _loaded(source, code, compute, options)
    folder = source if isinstance(source, Path) else code
    unused = unused_in(folder)
    if missing := sorted(key for key in info["missing_keys"] if not key.startswith(unused)):
        raise FormatError(
            f"{len(missing)} tensors of the architecture are missing ({missing[0]})",
            where=_name(source),
        )
    placed: PreTrainedModel = (model if placement else model.to(device)).eval()
    if folder is not None:
        keep_beside(placed, stored_beside(folder))
    return placed


def _check_memory(source: ModelSource, compute: Compute) -> None:
    """Refuse a model that does not fit: the system would kill the process without a word."""
    if isinstance(source, Path):
        count = sum(info.count for info in open_folder(source).tensors.values())
    else:
        count = sum(tensor.numel() for tensor in source[1].values())
    needed = count * (4 if compute.dtype in (None, "float32") else 2)
    free = psutil.virtual_memory().available
    if needed > free:
        raise DataError(
            f"running the model needs {in_gigabytes(needed)} of memory, "
            f"and {in_gigabytes(free)} are free",
            remedy="--compute-dtype bfloat16 halves it; or measure on a larger machine",
        )


def _loaded(
    source: ModelSource, code: Path | None, compute: Compute, options: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """The model, and what transformers says of its tensors."""
    folder = source if isinstance(source, Path) else code
    config, state = (None, None) if isinstance(source, Path) else (source[0], dict(source[1]))
    trusted, place = compute.trust_remote_code, TemporaryDirectory(prefix="geo-merge-")
    try:
        staged = stage(Path(place.name), folder, config, trusted=trusted)
        found: tuple[Any, dict[str, Any]] = loading.load_pretrained(
            staged, _name(source), trusted=trusted, state=state, **options
        )
        if "disk" in (getattr(found[0], "hf_device_map", None) or {}).values():
            weakref.finalize(found[0], place.cleanup)  # weights are read again and again
            return found
    except BaseException:
        place.cleanup()
        raise
    place.cleanup()
    return found


def _name(source: ModelSource) -> str:
    return str(source) if isinstance(source, Path) else "merged model"


def _dtype(compute: Compute, device: str) -> torch.dtype | str:
    if compute.dtype is not None:
        dtype: torch.dtype = getattr(torch, compute.dtype)
        return dtype
    return torch.float32 if device == "cpu" else "auto"


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' remarks, and its progress bars unless the environment asks for them."""
    logging: Any = transformers_logging
    wanted = constants.HF_HUB_DISABLE_PROGRESS_BARS is False  # the hub client warns if disabled
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled() and not wanted
    logging.set_verbosity_error()
    if bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
