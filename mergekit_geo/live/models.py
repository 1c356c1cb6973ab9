"""Loading a checkpoint into the class that its configuration names, and nothing less."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.checkpoint import Config, FolderCheckpoint
from mergekit_geo.checkpoints.writer import in_gigabytes
from mergekit_geo.errors import DataError, FormatError
from mergekit_geo.live.distributed import local_device
from mergekit_geo.live.settings import Compute

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(folder: Path, compute: Compute) -> PreTrainedTokenizerBase | None:
    """The tokenizer in a checkpoint's folder, None where there is none."""
    from transformers import AutoTokenizer

    if not any(folder.glob("tokenizer*")) and not any(folder.glob("vocab*")):
        return None
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, trust_remote_code=compute.trust_remote_code
    )
    return tokenizer


def load_model(
    source: Path | tuple[Config, Mapping[str, Tensor]], compute: Compute
) -> PreTrainedModel:
    """A model in evaluation mode.

    Args:
        source: A checkpoint's folder, or a configuration and the stored tensors by name.
        compute: Device and dtype. More than one accelerator is used where one is too small.

    Raises:
        FormatError: The checkpoint lacks weights of its architecture: transformers would fill the
            gaps at random and say nothing.
        DataError: It does not fit into memory.
    """
    import torch

    device = local_device(compute.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device == "cpu":
        _check_memory(source, compute)
    placement: dict[str, Any] = {"device_map": "auto"} if device == "cuda" else {}
    options = {"dtype": _dtype(compute, device), "output_loading_info": True, **placement}
    with quiet_transformers():
        model, info = _from_pretrained(source, compute, options)
    if missing := sorted(info["missing_keys"]):
        raise FormatError(
            f"{len(missing)} tensors of the architecture are missing ({missing[0]})",
            where=str(source) if isinstance(source, Path) else "merged model",
        )
    placed: PreTrainedModel = (model if placement else model.to(device)).eval()
    return placed


def _check_memory(source: Path | tuple[Config, Mapping[str, Tensor]], compute: Compute) -> None:
    """Refuse a model that does not fit: the system would kill the process without a word."""
    import psutil

    if isinstance(source, Path):
        count = sum(info.count for info in FolderCheckpoint(source).tensors.values())
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


def _from_pretrained(
    source: Path | tuple[Config, Mapping[str, Tensor]], compute: Compute, options: dict[str, Any]
) -> Any:
    import transformers

    if not isinstance(source, Path):
        config, state = transformers.AutoConfig.for_model(**source[0]), dict(source[1])
        architecture: Any = getattr(transformers, source[0]["architectures"][0])
        return architecture.from_pretrained(None, config=config, state_dict=state, **options)
    remote = {"trust_remote_code": compute.trust_remote_code}
    config = transformers.AutoConfig.from_pretrained(source, **remote)
    name = (config.architectures or [""])[0]
    known = getattr(transformers, name, None)
    architecture = known or _remote_class(config, name) or transformers.AutoModelForCausalLM
    return architecture.from_pretrained(
        source, trust_remote_code=compute.trust_remote_code, **options
    )


def _remote_class(config: Any, name: str) -> Any:
    """The auto class for which a model's own code declares its architecture."""
    import transformers

    auto_map = getattr(config, "auto_map", None) or {}
    found = (auto for auto, place in auto_map.items() if str(place).rpartition(".")[2] == name)
    return getattr(transformers, next(found, ""), None)


def _dtype(compute: Compute, device: str) -> torch.dtype | str:
    import torch

    if compute.dtype is not None:
        dtype: torch.dtype = getattr(torch, compute.dtype)
        return dtype
    return torch.float32 if device == "cpu" else "auto"


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' own remarks, and progress bars unless the environment wants them."""
    from huggingface_hub import constants
    from transformers.utils import logging as untyped

    logging: Any = untyped
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
